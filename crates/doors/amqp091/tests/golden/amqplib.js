// Says what the recorder wants to hear, with amqplib for Node: `node amqplib.js PORT`.
const amqp = require('amqplib');

async function main(port) {
  const connection = await amqp.connect(`amqp://guest:guest@127.0.0.1:${port}/?heartbeat=5`);
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange('golden.f', 'fanout', { durable: true, autoDelete: true });
  await channel.assertExchange('golden.g', 'direct', { internal: true, autoDelete: true });
  await channel.bindExchange('golden.g', 'golden.f', 'key', { number: 1.5 });
  await channel.assertQueue('golden.n', { durable: true, messageTtl: 60000, maxPriority: 5, expires: 600000 });
  await channel.bindQueue('golden.n', 'golden.f', '');
  await channel.prefetch(10);
  const headers = {
    text: 'grüße', tiny: 1, short: 1000, medium: 100000, large: 2 ** 40, negative: -5, real: 0.5, truth: true, nothing: null,
    list: [1, 'two', [3]], map: { a: { b: 'c' } }, bytes: Buffer.from([0, 255]),
    float: { '!': 'float', value: 0.25 }, decimal: { '!': 'decimal', value: { digits: 125, places: 2 } },
    when: { '!': 'timestamp', value: 1700000000 },
  };
  channel.publish('golden.f', 'key', Buffer.from('hello'), {
    headers, persistent: true, contentType: 'text/plain', contentEncoding: 'utf-8', priority: 3, correlationId: 'c1',
    replyTo: 'replies', expiration: 60000, messageId: 'm1', timestamp: 1700000000, type: 'kind', userId: 'guest', appId: 'recorder',
  });
  await channel.waitForConfirms();
  await new Promise((resolve) => channel.consume('golden.n', (message) => { if (message) channel.ack(message); resolve(); }, { priority: 5 }));
  await channel.get('golden.n');
  await channel.unbindExchange('golden.g', 'golden.f', 'key', { number: 1.5 });
  await channel.deleteQueue('golden.n');
  await channel.close();
  await connection.close();
}

main(process.argv[2]);
