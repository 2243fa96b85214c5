// Asks models that fail in all ways, and looks at what they were sent. Run by ../model.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import { join } from "node:path";

import { LLMock } from "@copilotkit/aimock";

const work = process.argv[2];
const key = "sk-check-0123456789abcdef";
const words = "Destinations refuse connections.";
const seconds = (number) => number * 1000;

let failed = false;
const tell = (name, problems, took) => {
  const time = took === undefined ? "" : ` (${(took / 1000).toFixed(1)} s)`;
  console.log(`${problems.length === 0 ? "ok" : "NOT content"}: ${name}${time}`);
  for (const problem of problems) console.log(`    ${problem}`);
  failed ||= problems.length > 0;
};

// Only what is named is in the environment: what this host has set is not judged.
const run = (args, environment = {}) =>
  new Promise((resolve) => {
    const begin = performance.now();
    const env = { PATH: process.env.PATH, NETMON_SOURCE: process.env.NETMON_SOURCE, ...environment };
    const child = spawn(process.env.NETMON_CLI, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (data) => (stdout += data));
    child.stderr.on("data", (data) => (stderr += data));
    child.on("close", (status) => resolve({ status, stdout, stderr, took: performance.now() - begin }));
  });

const model = (url, more = {}) => ({
  NETMON_AI_MODEL: "small",
  NETMON_AI_BASE_URL: url,
  OPENAI_API_KEY: key,
  ...more,
});

// An answer as JSON, and what is wrong with it wherever it comes from.
const insights = async (environment, args = []) => {
  const ran = await run(["insights", "-o", "json", ...args], environment);
  const problems = [];
  let answer = {};
  try {
    answer = JSON.parse(ran.stdout);
  } catch (error) {
    problems.push(`stdout is no JSON: ${error.message}; ${ran.stderr.slice(0, 300)}`);
  }
  if (ran.status !== 0) problems.push(`exit status ${ran.status}: ${ran.stderr.slice(0, 300)}`);
  if (!(answer.findings?.length > 0)) problems.push("there are no findings");
  if ((ran.stdout + ran.stderr).includes(key)) problems.push("the key is shown");
  if (ran.stdout.length > 100_000) problems.push(`the answer has ${ran.stdout.length} characters`);
  // As JSON has them: no control character stands for itself.
  if (/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/u.test(ran.stdout)) {
    problems.push("a character that moves the cursor or the reading order is shown");
  }
  return { ...ran, answer, problems };
};

const within = (problems, took, least, most) => {
  if (took < least || took > most) problems.push(`it took ${took.toFixed(0)} ms, not ${least} to ${most}`);
};

// A model that answers. Starting and reading the recording may take some seconds on a busy host.
const SLACK = seconds(8);
const answers = async (name, url, { least = 0, most = 0, expected = words, more = {} } = {}) => {
  const { answer, problems, took } = await insights(model(url, more));
  if (answer.ai_error) problems.push(`ai_error: ${answer.ai_error}`);
  if (answer.insights !== expected) problems.push(`insights: ${JSON.stringify(answer.insights)?.slice(0, 300)}`);
  within(problems, took, least, most + SLACK);
  tell(name, problems, took);
};

// A model that fails: the findings stay, and it is told why, in a line.
const fails = async (name, url, expected, { least = 0, most = 0, more = {} } = {}) => {
  const { answer, problems, took } = await insights(model(url, more));
  if (answer.insights !== undefined) problems.push(`insights: ${JSON.stringify(answer.insights).slice(0, 300)}`);
  const error = answer.ai_error ?? "";
  if (!expected.test(error)) problems.push(`ai_error: ${JSON.stringify(error).slice(0, 400)}, not ${expected}`);
  if (error.length > 400 || error.includes("\n")) problems.push("ai_error is not one short line");
  within(problems, took, least, most + SLACK);
  tell(name, problems, took);
};

// A setting that is refused before anything is sent.
const refused = async (name, environment, expected) => {
  const ran = await run(["insights", "-o", "json"], environment);
  const problems = [];
  if (ran.status !== 2) problems.push(`exit status ${ran.status}`);
  if (!expected.test(ran.stderr)) problems.push(`stderr: ${ran.stderr.slice(0, 300)}`);
  if ((ran.stdout + ran.stderr).includes(key)) problems.push("the key is shown");
  tell(name, problems, ran.took);
};

// ---- What leaves the host ----

const mock = new LLMock({ port: 0, host: "127.0.0.1", logLevel: "silent" });
await mock.start();
const url = `${mock.url}/v1`;
mock.onMessage("", { content: words });

// Everything that netmon itself tells of this recording, by the name of its field. Ports, protocols, errors and numbers may
// leave, as may the addresses that every host has.
const SECRET = new Set(["address", "comm", "thread_comm", "exe", "cmdline", "cgroup", "container", "unit", "host", "name"]);
const HARMLESS = new Set(["127.0.0.1", "::1", "0.0.0.0", "::"]);
const secrets = new Map();
const collect = (value, field) => {
  if (Array.isArray(value)) value.forEach((item) => collect(item, field));
  else if (value && typeof value === "object") {
    // Names of errors, numbers and limits are the kernel's or netmon's.
    const isOwn = "errno" in value || "unit" in value && "value" in value;
    for (const [name, item] of Object.entries(value)) if (!(isOwn && ["name", "unit"].includes(name))) collect(item, name);
  } else if (typeof value === "string" && value !== "" && SECRET.has(field) && !HARMLESS.has(value)) {
    secrets.set(value, field);
  }
};
for (const command of ["connections", "sockets", "listeners", "summary", "patterns", "diagnose"]) {
  const ran = await run([command, "-o", "json", ...(command === "sockets" || command === "listeners" ? [] : ["--since", "1h"])]);
  const answer = JSON.parse(ran.stdout);
  collect(answer, "");
}
const question = [
  "Why do", [...secrets].filter(([, field]) => ["comm", "thread_comm", "address", "unit"].includes(field)).map(([name]) => name).join(", "),
  "fail on demo for 'alice'? I ran /home/alice/run --token=hunter2 password=hunter3 at db.corp.example, alice@corp.example,",
  "198.51.100.77:443 and [2001:db8::99]:53, with", key,
].join(" ").slice(0, 2000);
for (const secret of ["alice", "hunter2", "hunter3", "corp.example", "198.51.100.77", "2001:db8::99", "/home"]) {
  secrets.set(secret, "question");
}

// Whole words, since a process may be called `node` and a message speak of nodes.
const contains = (text, secret) => {
  const plain = secret.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`(?<![\\p{L}\\p{N}_])${plain}(?![\\p{L}\\p{N}_])`, "u").test(text);
};
// What the model was told, without the words that netmon tells everybody.
const sent = (entry) => entry.body.messages.filter((message) => message.role !== "system").map((message) => message.content).join("\n");

{
  const problems = [];
  const asked = await insights(model(url), [question, "--since", "1h", "--summary-text", "Process 'curl' made 5 attempts to db-1.corp.example"]);
  problems.push(...asked.problems);
  const journal = mock.getRequests();
  if (journal.length !== 1) problems.push(`${journal.length} requests were sent`);
  const [entry] = journal;
  const text = sent(entry);
  if (secrets.size < 40) problems.push(`only ${secrets.size} names are known to look for`);
  if (!text.includes("ECONNREFUSED") || !/process-\d/.test(text)) problems.push(`it says nothing: ${text.slice(0, 200)}`);
  for (const [secret, field] of secrets) {
    if (contains(text, secret)) problems.push(`${field} ${JSON.stringify(secret)} was sent: ${text.slice(0, 200)}`);
  }
  const { authorization, ...headers } = entry.headers;
  const rest = JSON.stringify([entry.body, headers, entry.path]);
  if (!authorization) problems.push("there is no Authorization");
  if (rest.includes(key)) problems.push("the key is elsewhere than in Authorization");
  // Those with an underscore are aimock's own.
  const fields = Object.keys(entry.body).filter((field) => !field.startsWith("_")).sort().join();
  if (fields !== "messages,model,stream") problems.push(`the body has ${fields}`);
  if (asked.answer.insights !== words) problems.push(`insights: ${asked.answer.insights}`);
  tell(`journal: none of ${secrets.size} names and addresses, and the key in its header alone`, problems, asked.took);

  mock.clearRequests();
  const dry = await insights(model(url), [question, "--since", "1h", "--ai-dry-run", "--summary-text", "Process 'curl' made 5 attempts to db-1.corp.example"]);
  if (mock.getRequests().length > 0) dry.problems.push("something was sent");
  if (JSON.stringify(dry.answer.payload?.messages) !== JSON.stringify(entry.body.messages)) {
    dry.problems.push("the payload is not what is sent");
  }
  tell("--ai-dry-run prints what would be sent and sends nothing", dry.problems, dry.took);
}

{
  for (const [setting, isOpen] of [["off", true], ["on", false], ["", false]]) {
    mock.clearRequests();
    const { problems, took } = await insights(model(url, { NETMON_AI_REDACTION: setting }));
    const text = mock.getRequests().map(sent).join();
    const names = [...secrets.keys()].filter((secret) => contains(text, secret));
    if (isOpen !== names.length > 0) problems.push(`${names.length} names were sent: ${names.slice(0, 5)}`);
    const lines = [...secrets].filter(([secret, field]) => ["cmdline", "exe"].includes(field) && text.includes(secret));
    if (lines.length > 0) problems.push(`arguments were sent: ${lines}`);
    tell(`NETMON_AI_REDACTION=${setting} sends ${isOpen ? "names, though no arguments" : "no name"}`, problems, took);
  }
  mock.clearRequests();
  for (const wrong of ["OFF", "0", "false", "no"]) {
    await refused(`NETMON_AI_REDACTION=${wrong} is refused`, model(url, { NETMON_AI_REDACTION: wrong }), /on or off/);
  }
  const { answer, problems, took } = await insights({ OPENAI_API_KEY: key, NETMON_AI_BASE_URL: url, OPENAI_BASE_URL: url });
  if (answer.model !== undefined || answer.ai_error !== undefined) problems.push("a model is named");
  if (mock.getRequests().length > 0) problems.push("something was sent");
  tell("without a model nothing is sent, whatever else is set", problems, took);
}

// ---- The same by MCP ----

// Calls `ai_insights`, and hears of its progress; `meanwhile` may send more.
const called = (args, { environment = model(url), meanwhile } = {}) =>
  new Promise((resolve) => {
    const begin = performance.now();
    const env = { PATH: process.env.PATH, NETMON_SOURCE: process.env.NETMON_SOURCE, ...environment };
    const child = spawn(process.env.NETMON_MCP, [], { env, stdio: ["pipe", "pipe", "pipe"] });
    const send = (message) => child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (data) => {
      stdout += data;
      if (stdout.includes('"id":2,') && !meanwhile) child.stdin.end();
    });
    child.stderr.on("data", (data) => (stderr += data));
    child.on("close", (status) => {
      const messages = stdout.split("\n").filter(Boolean).map((line) => JSON.parse(line));
      const problems = [];
      if (status !== 0) problems.push(`exit status ${status}: ${stderr.slice(0, 300)}`);
      if ((stdout + stderr).includes(key)) problems.push("the key is shown");
      const steps = messages.filter((message) => message.method === "notifications/progress").map((message) => message.params);
      if (steps.some((step, index) => index > 0 && step.progress <= steps[index - 1].progress)) problems.push("progress does not rise");
      const result = messages.find((message) => message.id === 2)?.result;
      if (result?.isError) problems.push(`isError: ${result.content[0].text.slice(0, 300)}`);
      resolve({ messages, result, answer: result?.structuredContent ?? {}, steps, problems, took: performance.now() - begin });
    });
    const client = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "check", version: "1" } };
    send({ id: 1, method: "initialize", params: client });
    send({ method: "notifications/initialized" });
    send({ id: 2, method: "tools/call", params: { name: "ai_insights", arguments: args, _meta: { progressToken: 1 } } });
    meanwhile?.(send, child);
  });

{
  mock.clearRequests();
  const summary = "Process 'curl' made 5 attempts to db-1.corp.example";
  // An answer's `command` has the caller's own words in it.
  const query = question.replace(key, "");
  const { result, answer, problems, took } = await called({ query, since: "1h", summary_text: summary });
  const [entry] = mock.getRequests();
  if (mock.getRequests().length !== 1) problems.push(`${mock.getRequests().length} requests were sent`);
  const text = entry ? sent(entry) : "";
  for (const [secret, field] of secrets) {
    if (contains(text, secret)) problems.push(`${field} ${JSON.stringify(secret)} was sent: ${text.slice(0, 200)}`);
  }
  if (answer.insights !== words) problems.push(`insights: ${answer.insights}; ${answer.ai_error}`);
  if (!result?.content[0].text.startsWith(words)) problems.push(`text: ${result?.content[0].text.slice(0, 200)}`);
  tell("ai_insights: the model's words; none of the names and addresses left", problems, took);

  mock.clearRequests();
  const alone = await called({}, { environment: { OPENAI_API_KEY: key, OPENAI_BASE_URL: url } });
  if (!(alone.answer.findings?.length > 0)) alone.problems.push("there are no findings");
  if (mock.getRequests().length > 0) alone.problems.push("something was sent");
  tell("ai_insights without a model: findings, and nothing is sent", alone.problems, alone.took);
}

// ---- Servers that fail, by aimock ----

const chaos = async (config, body) => {
  mock.setChaos(config);
  mock.clearRequests();
  await body();
  mock.clearChaos();
};
const asked = (name, expected) => {
  const count = mock.getRequests().length;
  tell(name, count === expected ? [] : [`${count} requests were sent, not ${expected}`]);
};
await chaos({ rateLimitRate: 1 }, async () => {
  await fails("429 with Retry-After: 1, always", url, /^it answered 429/, { least: seconds(1), most: seconds(1) });
  asked("    asked twice", 2);
});
mock.clearRequests();
mock.nextRequestError(429, { message: "slow down" });
await answers("429 with Retry-After: 1, once", url, { least: seconds(1), most: seconds(1) });
mock.nextRequestError(503, { message: "busy" });
await answers("503, once", url, { least: seconds(1), most: seconds(1) });
await chaos({ dropRate: 1 }, async () => {
  await fails("500", url, /^it answered 500/);
  asked("    asked once", 1);
});
await chaos({ disconnectRate: 1 }, () => fails("disconnect", url, /./));
await chaos({ malformedRate: 1 }, () => fails("malformed JSON", url, /cannot be read/));
for (const [name, config, expected] of [
  ["429", { rateLimitRate: 1 }, /^it answered 429/],
  ["500", { dropRate: 1 }, /^it answered 500/],
  ["a disconnect", { disconnectRate: 1 }, /./],
  ["malformed JSON", { malformedRate: 1 }, /cannot be read/],
]) {
  await chaos(config, async () => {
    const { answer, problems, took } = await called({});
    if (!(answer.findings?.length > 0)) problems.push("there are no findings");
    if (!expected.test(answer.ai_error ?? "")) problems.push(`ai_error: ${answer.ai_error}, not ${expected}`);
    tell(`ai_insights with ${name}: findings, and why`, problems, took);
  });
}
await chaos({ latencyMs: 30_000 }, async () => {
  const { messages, problems, took } = await called({}, {
    meanwhile: (send, child) => setTimeout(() => {
      send({ method: "notifications/cancelled", params: { requestId: 2 } });
      send({ id: 3, method: "ping" });
      setTimeout(() => child.stdin.end(), 1000);
    }, 2000),
  });
  const pong = messages.findIndex((message) => message.id === 3);
  if (pong < 0 || messages.some((message, index) => message.id === 2 || index > pong)) {
    problems.push(`after the cancellation came ${JSON.stringify(messages.slice(-2)).slice(0, 300)}`);
  }
  within(problems, took, seconds(3), seconds(3) + SLACK);
  tell("ai_insights that is cancelled says nothing more", problems, took);
});
await chaos({ latencyMs: 5000 }, () => answers("5 s before the first byte", url, { least: seconds(5), most: seconds(5) }));
await chaos({ latencyMs: 30_000 }, () =>
  fails("30 s before the first byte", url, /^nothing came within 20 s$/, { least: seconds(20), most: seconds(20) }),
);
mock.clearFixtures();
mock.on({ userMessage: "" }, { content: words }, { streamingProfile: { ttft: 1000, tps: 2 }, chunkSize: 8 });
await answers("a stream at two words a second", url, { least: seconds(2), most: seconds(8) });
{
  const { answer, steps, problems, took } = await called({});
  if (answer.insights !== words) problems.push(`insights: ${answer.insights}; ${answer.ai_error}`);
  const written = new Set(steps.map((step) => step.message.match(/^the model has written (\d+) characters$/)?.[1]));
  if (written.size < 3) problems.push(`steps: ${steps.map((step) => step.message).join("; ")}`);
  tell("ai_insights tells while a model writes how much it wrote", problems, took);
}
mock.clearFixtures();
mock.on({ userMessage: "" }, { content: words.repeat(20) }, { truncateAfterChunks: 5, chunkSize: 8 });
await fails("a stream that is cut", url, /broke off|disconnected/);
await mock.stop();

// ---- Servers that fail as aimock cannot: it always says Retry-After, streams where it is asked to (and netmon asks), sends
// its headers with its first word, and neither floods, nor stalls for longer than 30 s, nor redirects ----

const completion = (content) => JSON.stringify({ choices: [{ message: { content }, finish_reason: "stop" }] });
const part = (content) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
const STREAM = { "content-type": "text/event-stream" };
const JSON_TYPE = { "content-type": "application/json" };

const serve = async (handler, body) => {
  const seen = [];
  const server = createServer((request, response) => {
    seen.push(request.headers);
    request.resume();
    request.on("end", () => handler(response, seen.length, request));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  await body(`http://127.0.0.1:${server.address().port}/v1`, seen);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
};
// A process that listens, never accepts, and has no room for more who wait.
const silent = async (time, body) => {
  const script = `
    const server = require("node:net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
      require("node:fs").writeSync(1, String(server.address().port));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${time});
      process.exit();
    });`;
  const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  const port = await new Promise((resolve) => child.stdout.once("data", (data) => resolve(Number(data))));
  const waiting = Array.from({ length: 8 }, () => connect(port, "127.0.0.1").on("error", () => {}));
  await new Promise((resolve) => setTimeout(resolve, 500));
  await body(`http://127.0.0.1:${port}/v1`);
  for (const socket of waiting) socket.destroy();
  child.kill("SIGKILL");
};
const reply = (status, headers, body) => (response) => response.writeHead(status, headers).end(body);
const repeat = (response, every, text) => {
  const timer = setInterval(() => response.write(text), every);
  response.on("close", () => clearInterval(timer));
};

await serve(reply(200, JSON_TYPE, completion(words)), async (url, seen) => {
  await answers("an answer in one piece", url);
  tell("    its key is the bearer's", seen[0].authorization === `Bearer ${key}` ? [] : [String(seen[0].authorization)]);
});
await serve(reply(429, JSON_TYPE, '{"error":{"message":"slow down"}}'), async (url, seen) => {
  await fails("429 without Retry-After", url, /^it answered 429 .*slow down/, { least: seconds(1), most: seconds(1) });
  tell("    asked twice", seen.length === 2 ? [] : [`${seen.length} requests`]);
});
await serve(reply(429, { ...JSON_TYPE, "retry-after": "3600" }, "{}"), (url) => fails("429 for an hour", url, /come back in 1 h/));
await serve(reply(500, { "content-type": "text/html" }, "<h1>no</h1>"), (url) => fails("500 as HTML", url, /^it answered 500/));
await serve(reply(401, JSON_TYPE, JSON.stringify({ error: { message: `${"x".repeat(245)} ${key}` } })), (url) =>
  fails("the key in a complaint", url, /^it answered 401/),
);
await serve(reply(200, { "content-type": "text/html" }, "<html>sign in</html>"), (url) => fails("a page instead of an answer", url, /cannot be read/));
await serve(reply(200, { "content-type": "text/plain" }, completion(words)), (url) => answers("an answer that calls itself text", url));
await serve(reply(200, JSON_TYPE, "x".repeat(10 << 20)), (url) => fails("10 MB", url, /longer than/));
await serve(reply(200, JSON_TYPE, JSON.stringify({ choices: "\u001b[2J\u202e".repeat(20_000) })), (url) => fails("a complaint of 200 KB", url, /cannot be read/));
await serve(reply(200, STREAM, part("x".repeat(10 << 20))), (url) => fails("a line of 10 MB in a stream", url, /longer than/));
await serve((response) => { response.writeHead(200, STREAM); repeat(response, 1, ": ping\n\n".repeat(1000)); }, (url) =>
  fails("a flood of nothing", url, /longer than/, { most: seconds(5) }),
);
await serve((response) => { response.writeHead(200, STREAM); repeat(response, 1, part("and so on, ").repeat(100)); }, async (url) => {
  const { answer, problems, took } = await insights(model(url));
  if (!(answer.insights?.length <= 16_400)) problems.push(`${answer.insights?.length} characters, ${answer.ai_error}`);
  within(problems, took, 0, seconds(5) + SLACK);
  tell("an endless stream of words", problems, took);
});
await serve(reply(200, STREAM, `${part("a\u001b[31m\u001b]0;x\u0007\u202eb\u0000\rc")}data: [DONE]\n\n`), (url) =>
  answers("terminal escapes", url, { expected: "a\\x1b[31m\\x1b]0;x\\x07\\u{202e}b\\x00c" }),
);
await serve(reply(200, STREAM, `data: ${JSON.stringify({ error: { message: "no memory" } })}\n\n`), (url) => fails("an error in a stream", url, /no memory/));

await serve(reply(200, JSON_TYPE, completion(words)), async (elsewhere, reached) => {
  for (const status of [301, 302, 307, 308]) {
    const there = elsewhere.replace("127.0.0.1", "localhost");
    await serve(reply(status, { location: `${there}/chat/completions` }, ""), (url) => fails(`${status} to another host`, url, /redirections are not followed/));
  }
  const proxies = { HTTP_PROXY: elsewhere, http_proxy: elsewhere, HTTPS_PROXY: elsewhere, ALL_PROXY: elsewhere };
  await serve(reply(200, JSON_TYPE, completion(words)), (url) => answers("a proxy is not asked for what is on this host", url, { more: proxies }));
  tell("    nothing came elsewhere", reached.length === 0 ? [] : [`${reached.length} requests`]);
});

{
  const dead = createTcpServer((socket) => socket.on("error", () => {}).end("not HTTP\r\n\r\n", () => socket.destroy()));
  await new Promise((resolve) => dead.listen(0, "127.0.0.1", resolve));
  const { port } = dead.address();
  await fails("a server of another protocol", `http://127.0.0.1:${port}/v1`, /./);
  await new Promise((resolve) => dead.close(resolve));
  await fails("nobody listens", `http://127.0.0.1:${port}/v1`, /./);
}
// At once, since all of them wait.
await Promise.all([
  serve((response) => { response.writeHead(200, STREAM).flushHeaders(); }, (url) =>
    fails("headers, and nothing more", url, /^nothing came within 20 s$/, { least: seconds(20), most: seconds(20) })),
  serve((response) => { response.writeHead(200, { ...JSON_TYPE, "content-length": 100 }).flushHeaders(); response.write("{"); }, (url) =>
    fails("the beginning of an answer in one piece, and nothing more", url, /^nothing came within 20 s$/, { least: seconds(20), most: seconds(20) })),
  serve((response) => { response.writeHead(200, STREAM); response.write(part("It ")); }, (url) =>
    fails("a word, and nothing more", url, /^nothing came within 20 s$/, { least: seconds(20), most: seconds(20) })),
  serve((response) => { response.writeHead(200, STREAM); repeat(response, 2000, ": ping\n\n"); }, (url) =>
    fails("signs of life, and nothing more", url, /^no whole answer within 60 s$/, { least: seconds(60), most: seconds(60) })),
  serve((response) => { response.writeHead(200, JSON_TYPE); repeat(response, 2000, " "); }, (url) =>
    fails("spaces before an answer in one piece", url, /^no whole answer within 60 s$/, { least: seconds(60), most: seconds(60) })),
  silent(seconds(30), (url) => fails("a server that accepts nobody", url, /^not connected within 3 s$/, { least: seconds(3), most: seconds(3) })),
]);

// ---- What is set wrongly ----

await serve(reply(200, JSON_TYPE, completion(words)), async (url, seen) => {
  const file = (text) => {
    const path = join(work, "key");
    writeFileSync(path, text, { mode: 0o600 });
    return { NETMON_AI_MODEL: "small", NETMON_AI_BASE_URL: url, NETMON_AI_KEY_FILE: path };
  };
  const { answer, problems, took } = await insights(file(`${key}\n`));
  if (answer.insights !== words || seen.at(-1)?.authorization !== `Bearer ${key}`) problems.push(`ai_error: ${answer.ai_error}`);
  tell("a key file that ends in a newline", problems, took);
  const before = seen.length;
  await refused("a key file of two lines", file(`${key}\nX-Other: header\n`), /more in it than a key/);
  await refused("an empty key file", file("\n"), /no key in it/);
  await refused("a key with a newline in it", model(url, { OPENAI_API_KEY: `${key}\r\nX-Other: header` }), /more in it than a key/);
  await refused("http to another host", model("http://192.0.2.1/v1"), /not encrypted/);
  await refused("http to a name like this host's", model("http://localhost.example/v1"), /not encrypted/);
  await refused("a password in the address", model(url.replace("//", "//me:secret@")), /password/);
  tell("    nothing was sent", seen.length === before ? [] : [`${seen.length - before} requests`]);
});

process.exit(failed ? 1 : 0);
