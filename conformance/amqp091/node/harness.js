// Which scenarios are there, and how did each end? A line for each, the sum as the last line.
'use strict';
const crypto = require('node:crypto');
const net = require('node:net');

const SCENARIO_MS_MAX = 180_000;
const scenarios = [];

/** A scenario's name is a sentence; it throws when something is not as it must be. */
function scenario(name, run) {
  scenarios.push({ name, run });
}

/** A name that no other scenario has. */
function fresh(label) {
  return `${label}-${crypto.randomBytes(5).toString('hex')}`;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks until `check` gives something true, and gives that. */
async function eventually(check, ms = 10_000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`did not become true within ${ms} ms: ${check}`);
    await sleep(20);
  }
}

/** A proxy between client and server that cuts, and lets new connections through. */
class Proxy {
  constructor(host, port) {
    this.pairs = [];
    this.server = net.createServer((client) => {
      const server = net.connect(port, host);
      this.pairs.push([client, server]);
      client.on('error', () => {}).pipe(server);
      server.on('error', () => {}).pipe(client);
    });
  }

  async listen() {
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    return this;
  }

  cut() {
    this.pairs.flat().forEach((socket) => socket.destroy());
    this.pairs = [];
  }

  close() {
    this.server.close();
    this.cut();
  }
}

function options() {
  const values = { host: '127.0.0.1', port: '5672', user: 'guest', password: 'guest', only: [] };
  const given = process.argv.slice(2);
  while (given.length) {
    const name = given.shift().replace(/^--/, '');
    if (name === 'reference' || name === 'verbose') values[name] = true;
    else if (name === 'only') values.only.push(given.shift());
    else values[name] = given.shift();
  }
  values.url = `amqp://${values.user}:${values.password}@${values.host}:${values.port}/?heartbeat=60`;
  return values;
}

async function main() {
  const server = options();
  const counts = { ok: 0, FAILED: 0, skipped: 0 };
  for (const { name, run } of scenarios) {
    if (server.only.length && !server.only.some((part) => name.includes(part))) continue;
    const begun = Date.now();
    let word = 'ok';
    let detail = '';
    let timer;
    try {
      const expired = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`took longer than ${SCENARIO_MS_MAX} ms`)), SCENARIO_MS_MAX);
      });
      await Promise.race([run(server), expired]);
    } catch (error) {
      word = 'FAILED';
      detail = `: ${String(error && error.message ? error.message : error).replace(/\s+/g, ' ')}`;
      if (server.verbose) console.error(error);
    } finally {
      clearTimeout(timer);
    }
    counts[word] += 1;
    const seconds = ((Date.now() - begun) / 1000).toFixed(1).padStart(6);
    console.log(`${word.padEnd(8)}${seconds} s  ${name}${detail}`);
  }
  console.log(`${counts.ok} passed, ${counts.FAILED} failed, ${counts.skipped} skipped`);
  process.exit(counts.FAILED ? 1 : 0);
}

module.exports = { scenario, fresh, sleep, eventually, Proxy, main };
