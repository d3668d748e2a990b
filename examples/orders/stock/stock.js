// The stock: takes books off the shelf, line by line, with a client of RabbitMQ that knows nothing of Waystation.
'use strict';
const amqplib = require('amqplib');

const url = process.argv[2] || 'amqp://guest:guest@127.0.0.1:5672/';

/** Takes the books of one line. */
function reserve(line) {
  if (!Number.isInteger(line.quantity)) throw new TypeError(`quantity ${JSON.stringify(line.quantity)} is no number`);
  return { order: line.order, lines: line.lines, address: line.address, item: `${line.quantity} x ${line.item}` };
}

async function main() {
  const connection = await amqplib.connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.prefetch(16);
  await channel.consume('stock', async (message) => {
    let ready;
    try {
      ready = reserve(JSON.parse(message.content));
    } catch (error) {
      console.error(`${message.properties.correlationId}: ${error.message}`);
      channel.nack(message, false, true);
      return;
    }
    // What a message came from goes on with what it causes: that is all that a service does to be found.
    const { correlationId, messageId, headers } = message.properties;
    const passed = { 'ws-cause': messageId, traceparent: headers.traceparent, 'ws-business-order': ready.order };
    const options = { persistent: true, contentType: 'application/json', correlationId, headers: passed, appId: 'stock' };
    channel.sendToQueue('ready', Buffer.from(JSON.stringify(ready)), options);
    await channel.waitForConfirms();
    channel.ack(message);
  });
  console.log('stock is ready');
  process.on('SIGTERM', () => connection.close().then(() => process.exit(0)));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
