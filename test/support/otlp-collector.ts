/**
 * Owns a receiver of OTLP over HTTP for tests: it reads a body with the protocol's own types (those that OpenTelemetry generates from
 * opentelemetry-proto) and refuses what they do not take. Must never accept a field that they do not know.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { TestContext } from 'node:test';

interface MessageType {
  fromObject(value: unknown): object;
  verify(message: object): string | null;
  encode(message: object): { finish(): Uint8Array };
  decode(bytes: Uint8Array): object;
  toObject(message: object, options: object): unknown;
}

const { opentelemetry } = createRequire(import.meta.url)(
  '@opentelemetry/otlp-transformer/build/src/generated/root.js',
) as {
  opentelemetry: { proto: { collector: { metrics: { v1: { ExportMetricsServiceRequest: MessageType } } } } };
};
const Request = opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest;

type Attributes = readonly { readonly key: string; readonly value: { readonly stringValue: string } }[];

interface Decoded {
  readonly resourceMetrics: readonly {
    readonly resource: { readonly attributes: Attributes };
    readonly scopeMetrics: readonly {
      readonly metrics: readonly {
        readonly name: string;
        readonly gauge: {
          readonly dataPoints: readonly {
            readonly attributes?: Attributes;
            readonly timeUnixNano: string;
            readonly asDouble: number;
          }[];
        };
      }[];
    }[];
  }[];
}

/** One value as the protocol has it. */
export interface ReceivedSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  readonly timeUnixNano: bigint;
}

/** What one request had. */
export interface ReceivedMetrics {
  readonly resource: Readonly<Record<string, string>>;
  readonly samples: readonly ReceivedSample[];
}

function labelsOf(attributes: Attributes = []): Record<string, string> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue]));
}

/**
 * Reads a body, sends it through the binary form of the protocol and back, and fails where anything is lost or added on the way: a
 * name that the types do not know, a number that they cannot hold.
 */
export function decodeMetrics(body: string): ReceivedMetrics {
  const given: unknown = JSON.parse(body);
  const message = Request.fromObject(given);
  assert.equal(Request.verify(message), null);
  const carried = Request.decode(Request.encode(message).finish());
  const read = Request.toObject(carried, { longs: String }) as Decoded;
  // Of a field that is empty nothing is carried.
  const kept = JSON.parse(
    JSON.stringify(given, (_, value: unknown) =>
      Array.isArray(value) && value.length === 0 ? undefined : value,
    ),
  ) as unknown;
  assert.deepEqual(read, kept);
  const [only] = read.resourceMetrics;
  assert.ok(only !== undefined && read.resourceMetrics.length === 1);
  return {
    resource: labelsOf(only.resource.attributes),
    samples: only.scopeMetrics.flatMap(({ metrics }) =>
      metrics.flatMap(({ name, gauge }) =>
        gauge.dataPoints.map(({ attributes, timeUnixNano, asDouble }) => ({
          name,
          labels: labelsOf(attributes),
          value: asDouble,
          timeUnixNano: BigInt(timeUnixNano),
        })),
      ),
    ),
  };
}

/** A receiver on loopback. */
export async function startCollector(t: TestContext): Promise<{
  readonly url: string;
  readonly received: ReceivedMetrics[];
  /** what was wrong with a request */
  readonly faults: string[];
}> {
  const received: ReceivedMetrics[] = [];
  const faults: string[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      try {
        assert.deepEqual(
          [request.method, request.url, request.headers['content-type']],
          ['POST', '/v1/metrics', 'application/json'],
        );
        received.push(decodeMetrics(Buffer.concat(parts).toString()));
        response.writeHead(200, { 'content-type': 'application/json' }).end('{"partialSuccess":{}}');
      } catch (error) {
        faults.push(String(error));
        response.writeHead(400, { 'content-type': 'application/json' }).end('{"code":3,"message":"bad"}');
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return { url: `http://127.0.0.1:${address.port}`, received, faults };
}
