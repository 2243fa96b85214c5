import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { askEverything } from './calls.mjs';

const { NETMON_MCP: command, NETMON_MCP_URL: url, NETMON_SOURCE } = process.env;
for (const transport of [
  new StdioClientTransport({ command, env: { NETMON_SOURCE } }),
  new StreamableHTTPClientTransport(new URL(url)),
]) {
  const client = new Client({ name: 'check', version: '1' });
  await client.connect(transport);
  await askEverything(client);
  await client.close();
}
