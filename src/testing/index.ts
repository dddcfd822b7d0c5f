export { type ClientOptions, connectClient, type TestClient } from './client.js'
export { EventStreamReader, type ReceivedEvent } from './event-stream.js'
export { connectFake, type FakeConnection, FakeTransport } from './fake-transport.js'
export { ManualClock } from './manual-clock.js'
export { type ConformanceCase, transportConformance } from './transport-conformance.js'
export type {
  HarnessClient,
  HarnessExchange,
  HarnessRequest,
  HarnessServer,
  TransportHarness,
} from './transport-harness.js'
