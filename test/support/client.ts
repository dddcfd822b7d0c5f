import { type ClientOptions, connectClient, type TestClient } from 'sluice/testing'
import { onTestFinished } from 'vitest'

export type { TestClient } from 'sluice/testing'

/** Opens a stream and resolves when the head of the response is there. The test's end closes it. */
export async function connect(url: string, options: ClientOptions = {}): Promise<TestClient> {
  const client = await connectClient(url, options)
  onTestFinished(() => client.leave())
  return client
}
