"""The client of fastmcp, which turns results into objects by the tools' schemas."""

import asyncio
import os

from fastmcp import Client
from fastmcp.client.transports import StdioTransport

CALLS = [
    ("ai_insights", {"summary_text": "Process 'curl' made 5 outbound connection attempts"}),
    ("analyze_patterns", {}),
    ("capabilities", {}),
    ("diagnose", {"since": "5m"}),
    ("get_network_summary", {"process_name": "curl"}),
    ("list_connections", {"limit": 5, "response_format": "detailed"}),
    ("list_packet_drops", {"limit": 2}),
    ("network-monitor", {"operation": "both"}),
]


async def main():
    environment = {"NETMON_SOURCE": os.environ["NETMON_SOURCE"]}
    for server in [StdioTransport(os.environ["NETMON_MCP"], [], env=environment), os.environ["NETMON_MCP_URL"]]:
        async with Client(server) as client:
            listed = {tool.name for tool in await client.list_tools()}
            assert listed == {name for name, _ in CALLS}, listed
            for name, arguments in CALLS:
                result = await client.call_tool(name, arguments)
                assert result.structured_content["host"] == "demo"
                assert result.data is not None, f"{name}: the structure is not what the schema says"
            assert len(await client.list_prompts()) == 3
            assert len(await client.list_resources()) == 2
            assert await client.read_resource("netmon://interfaces")


asyncio.run(main())
