"""The official Python client: checks every message against its models, and results against the tools' schemas."""

import asyncio
import json
import os

from mcp import Client, StdioServerParameters
from mcp_types import PromptReference

TOOLS = {
    "ai_insights": ({"query": "what fails?"}, "4 findings in 30 s"),
    "analyze_patterns": ({}, "Connection Analysis:"),
    "capabilities": ({}, ""),
    "diagnose": ({}, "4 findings in 30 s"),
    "get_network_summary": ({}, "All processes made 76 outbound connection attempts over the last 60 seconds"),
    "list_connections": ({"filter": "failed"}, "Recent connection events (56 total):"),
    "list_packet_drops": ({}, "546 packets were dropped"),
    "network-monitor": ({"operation": "incoming"}, "Incoming packets per second on eth0: 1000.00"),
}


async def ask_everything(client):
    listed = [tool.name for tool in (await client.list_tools()).tools]
    assert listed == sorted(TOOLS), listed
    for name, (arguments, first) in TOOLS.items():
        result = await client.call_tool(name, arguments)
        assert not result.is_error, result
        assert result.content[0].text.startswith(first), result.content[0].text
        assert result.structured_content["host"] == "demo"
    steps = []

    async def progress(done, total, message):
        steps.append((done, total))

    await client.call_tool("network-monitor", {"operation": "both"}, progress_callback=progress)
    assert len(steps) >= 2 and steps == sorted(set(steps)), steps
    wrong = await client.call_tool("network-monitor", {"operation": "both", "interface": "eth9"})
    assert wrong.is_error and "there are: lo, eth0" in wrong.content[0].text
    for uri in ["netmon://capabilities", "netmon://interfaces", "netmon://connections/2069-5af90c512100"]:
        read = await client.read_resource(uri)
        assert json.loads(read.contents[0].text)["host"] == "demo"
    assert len((await client.list_resources()).resources) == 2
    assert len((await client.list_resource_templates()).resource_templates) == 1
    assert len((await client.list_prompts()).prompts) == 3
    prompt = await client.get_prompt("triage_process", {"process": "curl"})
    assert '"process_name":"curl"' in prompt.messages[0].content.text
    reference = PromptReference(type="ref/prompt", name="why_is_it_slow")
    done = await client.complete(reference, {"name": "interface", "value": "eth"})
    assert done.completion.values == ["eth0", "eth1"], done


async def main():
    environment = {"NETMON_SOURCE": os.environ["NETMON_SOURCE"]}
    for mode, version in [("legacy", "2025-11-25"), ("auto", "2026-07-28")]:
        for server in [StdioServerParameters(command=os.environ["NETMON_MCP"], env=environment), os.environ["NETMON_MCP_URL"]]:
            async with Client(server, mode=mode, read_timeout_seconds=30) as client:
                assert client.protocol_version == version, client.protocol_version
                await ask_everything(client)


asyncio.run(main())
