// Reads what the conformance suite wrote: every message has to be what the official JSON schema says, and every scenario
// has to pass that does not want tools, resources or prompts of its own, or features that netmon does not offer.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const [directory, revision] = process.argv.slice(2);
const notOurs = [
  [/^(tools-call|resources-read|resources-templates-read|prompts-get|completion-complete|json-schema)/, 'wants its own tools, resources and prompts'],
  [/^(elicitation|input-required-result|tools-call-(sampling|elicitation))/, 'wants its own tools, and a server that asks back'],
  [/^http-custom-header/, 'wants a tool with headers of its own'],
  [/^logging-set-level/, 'logging is not offered: the protocol has given it up'],
  [/^resources-(un)?subscribe/, 'subscriptions are not offered'],
  [/^tasks-/, 'the extension is not offered'],
];
const passed = new Set();
const left = new Map();
const wrong = [];
for (const result of readdirSync(directory)) {
  const name = result.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT.*$/, '');
  const reason = notOurs.find(([pattern]) => pattern.test(name))?.[1];
  const checks = JSON.parse(readFileSync(join(directory, result, 'checks.json')));
  const failures = checks.filter(check => check.status === 'FAILURE');
  for (const { id, errorMessage } of failures) {
    const untestable = /^Not testable: server does not list the diagnostic tool/.test(errorMessage ?? '');
    if (id === 'wire-schema-valid' || !(reason || untestable)) wrong.push(`${name}: ${id}: ${errorMessage}`);
  }
  if (failures.length === 0) passed.add(name);
  else left.set(name, reason ?? 'some checks want its own tools; all others pass');
}
if (passed.size === 0) wrong.push('nothing was tried');
console.log(`${revision}: passed: ${[...passed].sort().join(', ')}`);
for (const [name, reason] of [...left].sort()) console.log(`  does not count: ${name} (${reason})`);
for (const line of wrong) console.log(`WRONG ${line}`);
process.exit(wrong.length ? 1 : 0);
