// Does an EventSource, as browsers have it, follow a call to its end, though the server is killed under it?
'use strict';
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { EventSource } = require('eventsource');
const { scenario, fresh, eventually, main } = require(path.join(__dirname, '../../amqp091/node/harness.js'));

/** A port below those of outgoing connections: one of them could take it while the server is away. */
async function freePort() {
  for (;;) {
    const port = 20_000 + crypto.randomInt(10_000);
    const isFree = await new Promise((resolve) => {
      const probe = net.createServer().on('error', () => resolve(false));
      probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}

/** The real binary on a port that stays the same: killed without warning, started again on the same data. */
class Server {
  constructor(binary, data, port) {
    Object.assign(this, { binary, data, url: `http://127.0.0.1:${port}`, address: `127.0.0.1:${port}` });
    fs.rmSync(data, { recursive: true, force: true });
    fs.mkdirSync(data, { recursive: true });
  }

  async start() {
    const log = fs.openSync(path.join(this.data, 'log'), 'a');
    const off = ['--amqp', 'off', '--amqp-management', 'off'];
    const words = ['serve', '--data', path.join(this.data, 'data'), '--http', this.address, ...off];
    this.process = spawn(this.binary, words, { stdio: ['ignore', log, log] });
    this.ended = new Promise((resolve) => this.process.once('exit', resolve));
    fs.closeSync(log);
    await eventually(() => fetch(`${this.url}/readyz`).then((answer) => answer.ok, () => false));
  }

  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  async ask(method, where, body) {
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    const answer = await fetch(this.url + where, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    assert.ok(answer.ok, `${method} ${where} gave ${answer.status}: ${text}`);
    return text ? JSON.parse(text) : undefined;
  }
}

async function running(options, use) {
  const server = new Server(options['server-binary'], path.join(options.data, fresh('node')), await freePort());
  await server.start();
  try {
    await use(server);
  } finally {
    await server.kill();
  }
}

/** What an EventSource heard, and what it asked for: each request with its Last-Event-ID and the status that came. */
function follow(url) {
  const heard = [];
  const asked = [];
  const source = new EventSource(url, {
    fetch: async (where, init) => {
      const one = { last: init.headers['Last-Event-ID'] };
      asked.push(one);
      const answer = await fetch(where, init);
      one.status = answer.status;
      return answer;
    },
  });
  for (const state of ['queued', 'working', 'succeeded', 'failed', 'cancelled', 'expired']) {
    source.addEventListener(state, (event) => {
      const call = JSON.parse(event.data);
      assert.equal(call.state, state);
      assert.equal(event.lastEventId, String(call.version));
      heard.push({ state, version: call.version, percent: call.progress && call.progress.percent, call });
    });
  }
  const has = (state, percent) => eventually(() => heard.find((one) => one.state === state && (!percent || one.percent === percent)));
  return { source, heard, asked, has };
}

/** An operation and a call of it that a worker has. */
async function called(server) {
  await server.ask('PUT', '/v1/operations/op', {});
  const { id } = await server.ask('POST', '/v1/calls/op', { order: 4711 });
  return `/v1/calls/${id}`;
}

const receive = async (server) => (await server.ask('POST', '/v1/operations/op/receive?wait_ms=5000&lease_ms=60000')).calls[0];

scenario('an EventSource hears each state and the progress, over a kill of the server, once, and stays away at the end', (options) =>
  running(options, async (server) => {
    const call = await called(server);
    const { source, heard, asked, has } = follow(server.url + call);
    await has('queued');
    const { attempt } = await receive(server);
    await has('working');
    await server.ask('POST', `${call}/progress`, { attempt, percent: 40, note: 'packing' });
    await has('working', 40);
    const before = asked.length;
    await server.kill();
    await server.start();
    await eventually(() => asked.length > before && asked.at(-1).status === 200);
    const known = heard.at(-1).version;
    assert.equal(asked.at(-1).last, String(known), 'it says what it knows');
    await server.ask('POST', `${call}/progress`, { attempt, percent: 80 });
    await has('working', 80);
    await server.ask('POST', `${call}/complete?attempt=${attempt}`, { shipped: true });
    const end = await has('succeeded');
    await eventually(() => source.readyState === EventSource.CLOSED);
    assert.equal(asked.at(-1).status, 204, 'who comes back after the end is told to stay away');
    const versions = heard.map((one) => one.version);
    assert.deepEqual(versions, [...new Set(versions)].sort((a, b) => a - b), 'each step once and in order');
    const states = heard.map((one) => one.state + (one.percent ? ` ${one.percent}` : ''));
    assert.deepEqual(states, ['queued', 'working', 'working 40', 'working 80', 'succeeded']);
    assert.equal(end.call.result.status, 200);
    const result = await fetch(server.url + end.call.links.result);
    assert.deepEqual(await result.json(), { shipped: true });
  }),
);

scenario('an EventSource that comes when the server is down hears the outcome when it is back', (options) =>
  running(options, async (server) => {
    const call = await called(server);
    const { attempt } = await receive(server);
    await server.ask('POST', `${call}/complete?attempt=${attempt}`, { shipped: true });
    await server.kill();
    const { source, heard, asked, has } = follow(server.url + call);
    await eventually(() => asked.length > 0);
    await server.start();
    await has('succeeded');
    await eventually(() => source.readyState === EventSource.CLOSED);
    assert.deepEqual(heard.map((one) => one.state), ['succeeded']);
  }),
);

scenario('an EventSource hears that a call is cancelled, and one of a call that never was ends with an error', (options) =>
  running(options, async (server) => {
    const call = await called(server);
    const { source, heard, has } = follow(server.url + call);
    await has('queued');
    await server.ask('DELETE', call);
    const { call: shown } = await has('cancelled');
    assert.equal(shown.problem.status, 409);
    await eventually(() => source.readyState === EventSource.CLOSED);
    assert.deepEqual(heard.map((one) => one.state), ['queued', 'cancelled']);
    const none = follow(`${server.url}${call.slice(0, -4)}0000`);
    await eventually(() => none.source.readyState === EventSource.CLOSED);
    assert.deepEqual([none.heard, none.asked.map((one) => one.status)], [[], [404]]);
  }),
);

main();
