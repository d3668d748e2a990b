// Do Standard Webhooks' own library and the CloudEvents SDK take what Waystation pushes, and refuse what was tampered with?
'use strict';
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const path = require('node:path');
const { CloudEvent, HTTP } = require('cloudevents');
const { Webhook } = require('standardwebhooks');
const { scenario, fresh, eventually, main } = require(path.join(__dirname, '../../amqp091/node/harness.js'));

const secret = () => `whsec_${crypto.randomBytes(32).toString('base64')}`;

/** One request to the server; gives the JSON of a success. */
function ask(server, method, where, body, headers = {}) {
  const url = new URL(server.http + where);
  const login = Buffer.from(`${server.user}:${server.password}`).toString('base64');
  const content = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  const ca = server.certificate && fs.readFileSync(server.certificate);
  const given = { authorization: `Basic ${login}`, 'content-type': 'application/json', ...headers };
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? https : http).request(url, { method, ca, headers: given }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => {
        const text = Buffer.concat(parts).toString();
        if (answer.statusCode >= 300) reject(new Error(`${method} ${where} gave ${answer.statusCode}: ${text}`));
        else resolve(text ? JSON.parse(text) : undefined);
      });
    });
    request.on('error', reject);
    request.end(content);
  });
}

/** A queue of its own that is pushed to a receiver of its own, while `use` runs. */
async function pushed(server, secrets, format, use) {
  const seen = [];
  const receiver = http.createServer((request, answer) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      seen.push({ headers: request.headers, body: Buffer.concat(parts).toString() });
      answer.writeHead(204).end();
    });
  });
  await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${receiver.address().port}/`;
  const [queue, dead] = [fresh('pushed'), fresh('dead')];
  await ask(server, 'PUT', `/v1/queues/${dead}`, {});
  await ask(server, 'PUT', `/v1/queues/${queue}`, { dead_letter: dead });
  await ask(server, 'PUT', `/v1/pushes/${queue}`, { queue, url, secrets, format });
  const publish = (body, headers) => ask(server, 'POST', `/v1/queues/${queue}/messages`, body, headers);
  const one = () => eventually(() => seen[0]);
  try {
    await use({ queue, publish, one, all: () => seen });
  } finally {
    await ask(server, 'DELETE', `/v1/pushes/${queue}`);
    receiver.close();
    receiver.closeAllConnections();
  }
}

for (const format of ['binary', 'structured', 'batch', 'raw']) {
  scenario(`what is pushed as ${format} is verified by the official library, and refused when tampered with`, async (server) => {
    const key = secret();
    await pushed(server, [key], format, async ({ publish, one }) => {
      await publish({ order: 4711, name: 'ä' });
      const { headers, body } = await one();
      const verified = new Webhook(key).verify(body, headers);
      const data = { structured: verified.data, batch: verified[0] && verified[0].data }[format] || verified;
      assert.deepEqual(data, { order: 4711, name: 'ä' });
      const refused = (changed, text = body, other = key) =>
        assert.throws(() => new Webhook(other).verify(text, { ...headers, ...changed }));
      refused({}, body.replace('4711', '4712'));
      refused({ 'webhook-id': `${headers['webhook-id']}0` });
      refused({ 'webhook-timestamp': String(Number(headers['webhook-timestamp']) + 1) });
      refused({}, body, secret());
    });
  });
}

scenario('an asymmetric signature (v1a) is verified by the public key that the server shows', async (server) => {
  const pair = `whsk_${crypto.randomBytes(32).toString('base64')}`;
  await pushed(server, [pair, secret()], 'binary', async ({ queue, publish, one }) => {
    const shown = await ask(server, 'GET', `/v1/pushes/${queue}`);
    assert.equal(JSON.stringify(shown).includes(pair), false);
    assert.match(shown.public_keys[0], /^whpk_/);
    const raw = Buffer.from(shown.public_keys[0].slice(5), 'base64').toString('base64url');
    const key = crypto.createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: raw }, format: 'jwk' });
    await publish({ a: 1 });
    const { headers, body } = await one();
    const [version, signature] = headers['webhook-signature'].split(' ')[0].split(',');
    assert.equal(version, 'v1a');
    const signed = (text) => Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${text}`);
    assert.equal(crypto.verify(null, signed(body), key, Buffer.from(signature, 'base64')), true);
    assert.equal(crypto.verify(null, signed(`${body} `), key, Buffer.from(signature, 'base64')), false);
  });
});

// The SDK leaves blanks in headers as they are, in and out, against HTTP protocol binding §3.1.3.2; so there is none here.
const ATTRIBUTES = {
  id: 'a-1', source: '/shop/1', type: 'org.example.paid', subject: 'order-4711', time: '2026-01-31T12:00:00.000Z',
  datacontenttype: 'application/json', dataschema: 'urn:example:schema', region: 'eu',
};
const DATA = { order: 4711, name: 'ä', list: [1, null] };

/** The SDK reads batches and writes none: each event of one is what it writes in structured mode. */
const batch = (...events) => ({
  headers: { 'content-type': 'application/cloudevents-batch+json' },
  body: `[${events.map((event) => HTTP.structured(event).body).join(',')}]`,
});

for (const format of ['binary', 'structured', 'batch']) {
  scenario(`events sent by the SDK come out of a push as they went in: ${format}`, async (server) => {
    for (const send of [HTTP.binary, HTTP.structured, batch]) {
      await pushed(server, [secret()], format, async ({ publish, one }) => {
        const sent = send(new CloudEvent({ ...ATTRIBUTES, data: DATA }));
        await publish(sent.body, sent.headers);
        const { headers, body } = await one();
        const found = HTTP.toEvent({ headers, body });
        const event = Array.isArray(found) ? found[0] : found;
        for (const [name, value] of Object.entries(ATTRIBUTES)) assert.equal(event[name], value, name);
        assert.deepEqual(event.data, DATA);
        assert.equal(event.validate(), true);
      });
    }
  });
}

scenario('a batch sent by the SDK is as many events, and the SDK reads them as a batch', async (server) => {
  await pushed(server, [secret()], 'batch', async ({ publish, all }) => {
    const events = [1, 2, 3, 4, 5].map((n) => new CloudEvent({ ...ATTRIBUTES, id: `b-${n}`, data: { n } }));
    const sent = batch(...events);
    await publish(sent.body, sent.headers);
    const found = () => all().flatMap(({ headers, body }) => HTTP.toEvent({ headers, body }));
    await eventually(() => found().length >= events.length);
    const seen = found().map((event) => [event.id, event.data.n]).sort();
    assert.deepEqual(seen, events.map((event) => [event.id, event.data.n]));
  });
});

main();
