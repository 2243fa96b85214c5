// What every client is made to ask, and what has to come back.
import assert from 'node:assert/strict';

export const tools = {
  ai_insights: [{ query: 'what fails?' }, '4 findings in 30 s'],
  analyze_patterns: [{}, 'Connection Analysis:'],
  capabilities: [{}, ''],
  diagnose: [{}, '4 findings in 30 s'],
  get_network_summary: [{}, 'All processes made 76 outbound connection attempts over the last 60 seconds'],
  list_connections: [{ filter: 'failed' }, 'Recent connection events (56 total):'],
  list_packet_drops: [{}, '546 packets were dropped'],
  'network-monitor': [{ operation: 'incoming' }, 'Incoming packets per second on eth0: 1000.00'],
};

export async function askEverything(client) {
  const listed = (await client.listTools()).tools.map(tool => tool.name);
  assert.deepEqual(listed, listed.filter(name => name in tools), 'a tool is not in calls.mjs');
  assert.equal(listed.length, Object.keys(tools).length);
  for (const [name, [args, first]] of Object.entries(tools)) {
    // The client checks what comes against the output schema.
    const result = await client.callTool({ name, arguments: args });
    assert.ok(!result.isError, JSON.stringify(result));
    assert.ok(result.content[0].text.startsWith(first), result.content[0].text);
    assert.equal(result.structuredContent.host, 'demo');
  }
  const wrong = await client.callTool({ name: 'list_connections', arguments: { filter: 'prot == 1' } });
  assert.ok(wrong.isError && wrong.content[0].text.includes('did you mean'));
  const resources = (await client.listResources()).resources.map(resource => resource.uri);
  assert.deepEqual(resources, ['netmon://capabilities', 'netmon://interfaces']);
  for (const uri of [...resources, 'netmon://connections/2069-5af90c512100']) {
    const { contents } = await client.readResource({ uri });
    assert.equal(JSON.parse(contents[0].text).host, 'demo');
  }
  assert.equal((await client.listResourceTemplates()).resourceTemplates.length, 1);
  assert.equal((await client.listPrompts()).prompts.length, 3);
  const prompt = await client.getPrompt({ name: 'triage_process', arguments: { process: 'curl' } });
  assert.ok(prompt.messages[0].content.text.includes('"process_name":"curl"'));
  const ref = { type: 'ref/prompt', name: 'triage_process' };
  const completion = await client.complete({ ref, argument: { name: 'process', value: 'cu' } });
  assert.deepEqual(completion.completion.values, ['curl']);
}
