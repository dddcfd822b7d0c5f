import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

const NEXT = fileURLToPath(new URL('../../node_modules/next/dist/bin/next', import.meta.url))

/** Builds an application of Next.js where it is: takes some seconds and no network. */
export async function buildNext(folder: string): Promise<void> {
  const child = spawn(process.execPath, [NEXT, 'build', folder], {
    env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const printed = Promise.all([text(child.stdout), text(child.stderr)])
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`next build ended with ${code}:\n${(await printed).join('\n')}`)
}

/** Removes what {@link buildNext} has made. */
export async function removeBuild(folder: string): Promise<void> {
  await Promise.all(
    ['.next', 'next-env.d.ts'].map((name) => rm(join(folder, name), { recursive: true, force: true })),
  )
}
