// Do amqplib's programs run: RabbitMQ's tutorials, and what services rely on beyond them?
'use strict';
const assert = require('node:assert/strict');
const amqp = require('amqplib');
const { scenario, fresh, sleep, eventually, Proxy, main } = require('./harness');

/** Runs `use` with a connection that is closed whatever happens; errors that close it are kept. */
async function connected(server, use, url = server.url) {
  const connection = await amqp.connect(url);
  connection.errors = [];
  connection.on('error', (error) => connection.errors.push(error));
  try {
    return await use(connection);
  } finally {
    await connection.close().catch(() => {});
  }
}

async function channelOf(connection, kind = 'createChannel') {
  const channel = await connection[kind]();
  channel.errors = [];
  channel.on('error', (error) => channel.errors.push(error));
  return channel;
}

/** Keeps what one consumer gets. */
async function collect(channel, queue, settings = {}) {
  const got = [];
  const { consumerTag } = await channel.consume(queue, (message) => got.push(message), settings);
  return {
    got,
    consumerTag,
    bodies: () => got.map((message) => message.content.toString()),
    async wait(count) {
      await eventually(() => got.length >= count);
      return this.bodies();
    },
  };
}

async function ready(channel, queue) {
  const bodies = [];
  for (;;) {
    const message = await channel.get(queue, { noAck: true });
    if (!message) return bodies;
    bodies.push(message.content.toString());
  }
}

const take = (channel, queue) => eventually(() => channel.get(queue, { noAck: true }));
const text = (string) => Buffer.from(string);

/** Runs `action`, which must close the channel with this code and these words. */
async function refused(connection, code, words, action) {
  const channel = await channelOf(connection);
  await assert.rejects(async () => action(channel), (error) => error.message.includes(words) || assert.fail(error));
  await eventually(() => channel.errors.length);
  assert.equal(channel.errors[0].code, code);
  assert.ok(channel.errors[0].message.includes(words), channel.errors[0].message);
}

scenario('tutorial 1 hello world', (server) => connected(server, async (connection) => {
  const channel = await channelOf(connection);
  const queue = fresh('hello');
  assert.deepEqual(await channel.assertQueue(queue, { durable: false }), { queue, messageCount: 0, consumerCount: 0 });
  channel.sendToQueue(queue, text('Hello World!'));
  const consumer = await collect(channel, queue, { noAck: true });
  assert.deepEqual(await consumer.wait(1), ['Hello World!']);
  const { fields, properties } = consumer.got[0];
  assert.deepEqual([fields.exchange, fields.routingKey, fields.redelivered, fields.deliveryTag], ['', queue, false, 1]);
  assert.equal(properties.deliveryMode, undefined);
  await channel.deleteQueue(queue);
}));

scenario('tutorial 2 work queues share by prefetch and redo what a closed worker held', (server) =>
  connected(server, async (connection) => {
    const [publisher, one, two] = await Promise.all([1, 2, 3].map(() => channelOf(connection)));
    const queue = fresh('tasks');
    await publisher.assertQueue(queue, { durable: true });
    await one.prefetch(1);
    await two.prefetch(1);
    const [first, second] = [await collect(one, queue), await collect(two, queue)];
    for (const body of 'abcd') publisher.sendToQueue(queue, text(body), { persistent: true });
    await first.wait(1);
    await second.wait(1);
    await sleep(100);
    assert.deepEqual([first.got.length, second.got.length], [1, 1]);
    one.ack(first.got[0]);
    await first.wait(2);
    await one.close();
    two.ack(second.got[0]);
    await second.wait(2);
    assert.deepEqual([second.bodies()[1], second.got[1].fields.redelivered], ['c', true]);
    await publisher.deleteQueue(queue);
  }));

scenario('tutorial 3 publish subscribe', (server) => connected(server, async (connection) => {
  const channel = await channelOf(connection);
  const logs = fresh('logs');
  await channel.assertExchange(logs, 'fanout', { durable: false });
  const consumers = [];
  for (let n = 0; n < 2; n += 1) {
    const { queue } = await channel.assertQueue('', { exclusive: true });
    assert.match(queue, /^amq\.gen-/);
    await channel.bindQueue(queue, logs, '');
    consumers.push(await collect(channel, queue, { noAck: true }));
  }
  channel.publish(logs, '', text('info'));
  for (const consumer of consumers) assert.deepEqual(await consumer.wait(1), ['info']);
  await channel.deleteExchange(logs);
}));

scenario('tutorial 4 routing', (server) => connected(server, async (connection) => {
  const channel = await channelOf(connection, 'createConfirmChannel');
  const logs = fresh('logs');
  await channel.assertExchange(logs, 'direct', { durable: false });
  const [errors, rest] = [(await channel.assertQueue('', { exclusive: true })).queue,
    (await channel.assertQueue('', { exclusive: true })).queue];
  await channel.bindQueue(errors, logs, 'error');
  await channel.bindQueue(rest, logs, 'info');
  await channel.bindQueue(rest, logs, 'warning');
  for (const severity of ['info', 'error', 'warning', 'debug']) channel.publish(logs, severity, text(severity));
  await channel.waitForConfirms();
  assert.deepEqual([await ready(channel, errors), await ready(channel, rest)], [['error'], ['info', 'warning']]);
  await channel.deleteExchange(logs);
}));

scenario('tutorial 5 topics', (server) => connected(server, async (connection) => {
  const channel = await channelOf(connection, 'createConfirmChannel');
  const logs = fresh('logs');
  await channel.assertExchange(logs, 'topic', { durable: false });
  const wanted = {
    'kern.*': ['kern.critical', 'kern.info'],
    '*.critical': ['kern.critical', 'cron.critical'],
    '#': ['kern.critical', 'kern.info', 'cron.critical', 'cron.info.more'],
    'cron.#': ['cron.critical', 'cron.info.more'],
  };
  const queues = {};
  for (const pattern of Object.keys(wanted)) {
    queues[pattern] = (await channel.assertQueue('', { exclusive: true })).queue;
    await channel.bindQueue(queues[pattern], logs, pattern);
  }
  for (const key of wanted['#']) channel.publish(logs, key, text(key));
  await channel.waitForConfirms();
  for (const pattern of Object.keys(wanted)) {
    assert.deepEqual(await ready(channel, queues[pattern]), wanted[pattern], pattern);
  }
  await channel.deleteExchange(logs);
}));

scenario('tutorial 6 remote procedure call', (server) => connected(server, async (connection) => {
  const [client, service] = [await channelOf(connection), await channelOf(connection)];
  const queue = fresh('rpc');
  await service.assertQueue(queue, { durable: false });
  await service.prefetch(1);
  await service.consume(queue, (message) => {
    if (!message) return;
    const { replyTo, correlationId } = message.properties;
    service.sendToQueue(replyTo, text(String(Number(message.content) * 2)), { correlationId });
    service.ack(message);
  });
  const { queue: replyTo } = await client.assertQueue('', { exclusive: true });
  const answers = await collect(client, replyTo, { noAck: true });
  for (let n = 0; n < 20; n += 1) client.sendToQueue(queue, text(String(n)), { replyTo, correlationId: `c${n}` });
  assert.deepEqual(await answers.wait(20), Array.from({ length: 20 }, (_, n) => String(n * 2)));
  assert.deepEqual(answers.got.map((message) => message.properties.correlationId),
    Array.from({ length: 20 }, (_, n) => `c${n}`));
  await client.deleteQueue(queue);
}));

scenario('tutorial 7 publisher confirms and returns', (server) => connected(server, async (connection) => {
  const channel = await channelOf(connection, 'createConfirmChannel');
  const returned = [];
  channel.on('return', (message) => returned.push(message));
  const { queue } = await channel.assertQueue('', { exclusive: true });
  let confirmed = 0;
  for (let n = 0; n < 100; n += 1) {
    channel.sendToQueue(queue, text(String(n)), { persistent: true }, (error) => { confirmed += error ? 0 : 1; });
  }
  await channel.waitForConfirms();
  assert.equal(confirmed, 100);
  assert.equal((await ready(channel, queue)).length, 100);
  const nowhere = fresh('nowhere');
  channel.publish('', nowhere, text('back'), { mandatory: true, messageId: 'm' });
  await channel.waitForConfirms();
  assert.equal(returned.length, 1, 'returned before it was confirmed');
  const { fields, properties, content } = returned[0];
  assert.deepEqual([fields.replyCode, fields.replyText, fields.routingKey, properties.messageId, String(content)],
    [312, 'NO_ROUTE', nowhere, 'm', 'back']);
}));

scenario('a broken connection is told, and the next one finds what was confirmed', async (server) => {
  const proxy = await new Proxy(server.host, Number(server.port)).listen();
  const url = server.url.replace(`:${server.port}/`, `:${proxy.port}/`);
  const queue = fresh('broken');
  try {
    await connected(server, async (connection) => {
      const channel = await channelOf(connection, 'createConfirmChannel');
      await channel.assertQueue(queue, { durable: true });
      for (const body of 'abc') channel.sendToQueue(queue, text(body), { persistent: true });
      await channel.waitForConfirms();
      const consumer = await collect(channel, queue);
      await consumer.wait(3);
      channel.ack(consumer.got[0]);
      await channel.checkQueue(queue);
      let closed = false;
      connection.on('close', () => { closed = true; });
      proxy.cut();
      await eventually(() => closed);
    }, url);
    await connected(server, async (connection) => {
      const channel = await channelOf(connection);
      const again = [await take(channel, queue), await take(channel, queue)];
      assert.deepEqual(again.map((message) => [String(message.content), message.fields.redelivered]),
        [['b', true], ['c', true]]);
      await channel.deleteQueue(queue);
    }, url);
  } finally {
    proxy.close();
  }
});

scenario('confirms under load come for every message', (server) => connected(server, async (connection) => {
  const count = 20_000;
  const channel = await channelOf(connection, 'createConfirmChannel');
  const queue = fresh('load');
  await channel.assertQueue(queue, { durable: true });
  let confirmed = 0;
  for (let n = 0; n < count; n += 1) {
    const more = channel.sendToQueue(queue, text(String(n)), { persistent: true }, (error) => {
      confirmed += error ? 0 : 1;
    });
    if (!more) await new Promise((resolve) => channel.once('drain', resolve));
  }
  await channel.waitForConfirms();
  assert.equal(confirmed, count);
  assert.equal((await channel.checkQueue(queue)).messageCount, count);
  const consumer = await collect(channel, queue, { noAck: true });
  const bodies = await consumer.wait(count);
  assert.ok(bodies.every((body, n) => body === String(n)), 'in order');
  await channel.deleteQueue(queue);
}));

scenario('a dead letter cycle counts its rounds', (server) => connected(server, async (connection) => {
  const channel = await channelOf(connection);
  const [work, wait] = [fresh('work'), fresh('wait')];
  await channel.assertQueue(work, { exclusive: true, deadLetterExchange: '', deadLetterRoutingKey: wait });
  await channel.assertQueue(wait, {
    exclusive: true, messageTtl: 50, deadLetterExchange: '', deadLetterRoutingKey: work,
  });
  channel.sendToQueue(work, text('stubborn'));
  const consumer = await collect(channel, work);
  for (let round = 1; round <= 3; round += 1) {
    await consumer.wait(round);
    channel.reject(consumer.got[round - 1], false);
  }
  await consumer.wait(4);
  const deaths = consumer.got[3].properties.headers['x-death'];
  assert.deepEqual(deaths.map((death) => [death.queue, death.reason, death.count, death.exchange, death['routing-keys']]),
    [[wait, 'expired', 3, '', [wait]], [work, 'rejected', 3, '', [work]]]);
  assert.equal(deaths[0].time['!'], 'timestamp');
  assert.equal(consumer.got[3].properties.headers['x-first-death-queue'], work);
}));

scenario('priorities times to live and lengths hold', (server) => connected(server, async (connection) => {
  const channel = await channelOf(connection, 'createConfirmChannel');
  const { queue: ranked } = await channel.assertQueue('', { exclusive: true, maxPriority: 5 });
  for (const priority of [1, 5, 0, 9, 3]) channel.sendToQueue(ranked, text(String(priority)), { priority });
  await channel.waitForConfirms();
  assert.deepEqual(await ready(channel, ranked), ['5', '9', '3', '1', '0']);
  const { queue: limited } = await channel.assertQueue('', { exclusive: true, messageTtl: 100 });
  channel.sendToQueue(limited, text('gone soon'));
  channel.sendToQueue(ranked, text('gone soon too'), { expiration: 100 });
  channel.sendToQueue(ranked, text('lasting'));
  const { queue: short } = await channel.assertQueue('', { exclusive: true, maxLength: 2 });
  for (const body of 'abc') channel.sendToQueue(short, text(body));
  await channel.waitForConfirms();
  assert.deepEqual(await ready(channel, short), ['b', 'c']);
  await sleep(300);
  assert.deepEqual([await ready(channel, limited), await ready(channel, ranked)], [[], ['lasting']]);
}));

scenario('direct reply to answers without a queue', (server) => connected(server, async (connection) => {
  const [client, service] = [await channelOf(connection), await channelOf(connection)];
  const { queue } = await service.assertQueue('', { exclusive: true });
  await service.consume(queue, (message) => {
    const { replyTo, correlationId } = message.properties;
    assert.match(replyTo, /^amq\.rabbitmq\.reply-to\../);
    service.sendToQueue(replyTo, text(String(message.content).toUpperCase()), { correlationId });
  }, { noAck: true });
  const answers = await collect(client, 'amq.rabbitmq.reply-to', { noAck: true });
  for (let n = 0; n < 10; n += 1) {
    client.sendToQueue(queue, text(`ask ${n}`), { replyTo: 'amq.rabbitmq.reply-to', correlationId: String(n) });
  }
  assert.deepEqual(await answers.wait(10), Array.from({ length: 10 }, (_, n) => `ASK ${n}`));
}));

scenario('prefetch is fair between consumers and global to a channel where asked', (server) =>
  connected(server, async (connection) => {
    const [one, two] = [await channelOf(connection), await channelOf(connection)];
    const queue = fresh('fair');
    await one.assertQueue(queue);
    await one.prefetch(2);
    await two.prefetch(2);
    const [first, second] = [await collect(one, queue), await collect(two, queue)];
    for (let n = 0; n < 8; n += 1) one.sendToQueue(queue, text(String(n)));
    await first.wait(2);
    await second.wait(2);
    await sleep(100);
    assert.deepEqual([first.got.length, second.got.length], [2, 2]);
    one.ack(first.got[1], true);
    await first.wait(4);
    await one.deleteQueue(queue);
    const shared = await channelOf(connection);
    await shared.prefetch(3, true);
    const names = [(await shared.assertQueue('', { exclusive: true })).queue,
      (await shared.assertQueue('', { exclusive: true })).queue];
    const both = [await collect(shared, names[0]), await collect(shared, names[1])];
    for (let n = 0; n < 6; n += 1) shared.sendToQueue(names[n % 2], text(String(n)));
    const all = () => both[0].got.length + both[1].got.length;
    await eventually(() => all() >= 3);
    await sleep(100);
    assert.equal(all(), 3);
    shared.ackAll();
    await eventually(() => all() >= 6);
  }));

scenario('exclusive and passive errors close the channel with their words', (server) =>
  connected(server, (owner) => connected(server, async (stranger) => {
    const [mine, absent] = [fresh('mine'), fresh('absent')];
    const channel = await channelOf(owner);
    await channel.assertQueue(mine, { exclusive: true });
    const locked = `RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '${mine}' in vhost '/'`;
    await refused(stranger, 405, locked, (c) => c.checkQueue(mine));
    await refused(stranger, 405, locked, (c) => c.consume(mine, () => {}));
    await refused(stranger, 404, `NOT_FOUND - no queue '${absent}' in vhost '/'`, (c) => c.checkQueue(absent));
    await refused(stranger, 404, `NOT_FOUND - no exchange '${absent}' in vhost '/'`, (c) => c.checkExchange(absent));
    await refused(stranger, 406, `inequivalent arg 'type' for exchange 'amq.fanout' in vhost '/'`,
      (c) => c.assertExchange('amq.fanout', 'direct'));
    await refused(stranger, 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
      (c) => c.assertQueue('amq.mine'));
    await refused(stranger, 406, 'PRECONDITION_FAILED - unknown delivery tag 9',
      async (c) => { c.ack({ fields: { deliveryTag: 9 } }); await c.assertQueue('', { exclusive: true }); });
  })));

scenario('headers of every type come back', (server) => connected(server, async (connection) => {
  const channel = await channelOf(connection);
  const { queue } = await channel.assertQueue('', { exclusive: true });
  const headers = {
    text: 'zażółć', byte: -5, word: 300, int: 70_000, long: 2 ** 40, yes: true, double: 0.25, nothing: null,
    bytes: Buffer.from([0, 255]), list: [1, 'two', [false]], table: { a: { b: 1 } },
    float: { '!': 'float', value: 0.5 }, price: { '!': 'decimal', value: { places: 2, digits: 1250 } },
    when: { '!': 'timestamp', value: 1_700_000_000 },
  };
  channel.sendToQueue(queue, text('x'), {
    headers, contentType: 'text/plain', contentEncoding: 'identity', persistent: true, priority: 3,
    correlationId: 'c', replyTo: 'r', expiration: '60000', messageId: 'm', timestamp: 1_700_000_000, type: 't',
    userId: server.user, appId: 'a',
  });
  const { properties } = await take(channel, queue);
  const wanted = { ...headers, float: 0.5 };
  assert.deepEqual({ ...properties.headers }, wanted);
  const { headers: _, clusterId: __, ...rest } = properties;
  assert.deepEqual(rest, {
    contentType: 'text/plain', contentEncoding: 'identity', deliveryMode: 2, priority: 3, correlationId: 'c',
    replyTo: 'r', expiration: '60000', messageId: 'm', timestamp: 1_700_000_000, type: 't', userId: server.user,
    appId: 'a',
  });
}));

scenario('consumers are told with null when their queue goes', (server) => connected(server, async (connection) => {
  const channel = await channelOf(connection);
  const queue = fresh('going');
  await channel.assertQueue(queue);
  const consumer = await collect(channel, queue);
  await channel.deleteQueue(queue);
  await eventually(() => consumer.got.length);
  assert.equal(consumer.got[0], null);
}));

scenario('nack all recover and purge keep their counts', (server) => connected(server, async (connection) => {
  const channel = await channelOf(connection, 'createConfirmChannel');
  const { queue } = await channel.assertQueue('', { exclusive: true });
  for (const body of 'abcd') channel.sendToQueue(queue, text(body));
  await channel.waitForConfirms();
  for (let n = 0; n < 4; n += 1) await channel.get(queue);
  assert.equal((await channel.checkQueue(queue)).messageCount, 0);
  channel.nackAll(true);
  assert.equal((await channel.checkQueue(queue)).messageCount, 4);
  const consumer = await collect(channel, queue);
  await consumer.wait(4);
  await channel.recover();
  assert.deepEqual((await consumer.wait(8)).slice(4), ['a', 'b', 'c', 'd']);
  await channel.cancel(consumer.consumerTag);
  channel.nackAll(true);
  assert.deepEqual(await channel.purgeQueue(queue), { messageCount: 4 });
}));

main();
