import assert from 'node:assert/strict';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { askEverything } from './calls.mjs';

const { NETMON_MCP: command, NETMON_MCP_URL: url, NETMON_SOURCE } = process.env;
for (const [mode, expected] of [['legacy', '2025-11-25'], ['auto', '2026-07-28']]) {
  for (const transport of [
    new StdioClientTransport({ command, env: { NETMON_SOURCE } }),
    new StreamableHTTPClientTransport(new URL(url)),
  ]) {
    const client = new Client({ name: 'check', version: '1' }, { versionNegotiation: { mode } });
    await client.connect(transport);
    assert.equal(client.getNegotiatedProtocolVersion(), expected);
    await askEverything(client);
    await client.close();
  }
}
