import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import { inject, onTestFinished } from 'vitest'
import { makeFolder } from '../support/example.js'
import { until } from '../support/until.js'

export const READ_TIMEOUT_S = 10
/** After a reload, streams of the old configuration are cut after this long. */
const OLD_WORKER_S = 2

export interface Nginx {
  readonly url: string
  /** Reads the configuration again, as `nginx -s reload` does; resolves when another worker serves. */
  reload(): Promise<void>
}

/** A real nginx in front of a port of this machine; gone when the test ends. Buffering is as nginx has it by default. */
export async function startNginx(upstreamPort: number): Promise<Nginx> {
  const folder = await makeFolder()
  const port = await freePort()
  const configuration = join(folder, 'nginx.conf')
  await mkdir(join(folder, 'logs'))
  await writeFile(configuration, textOf(folder, port, upstreamPort))
  const words = ['-p', folder, '-c', configuration, '-e', 'stderr']
  const nginx = spawn(inject('nginxPath'), words, { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  nginx.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text
  })
  const exited = once(nginx, 'exit')
  onTestFinished(async () => {
    nginx.kill('SIGTERM')
    await exited
  })
  let isListening = false
  const knock = () => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => {
      isListening = true
      socket.destroy()
    })
    socket.on('error', () => {})
  }
  await until(() => {
    if (nginx.exitCode !== null) throw new Error(`nginx ended: ${log}`)
    knock()
    return isListening
  }, 'nginx listens')
  return {
    url: `http://127.0.0.1:${port}/`,
    async reload() {
      const before = workersStarted()
      const signal = spawn(inject('nginxPath'), [...words, '-s', 'reload'], { stdio: 'ignore' })
      await once(signal, 'exit')
      await until(() => workersStarted() > before, 'nginx has reloaded')
    },
  }

  function workersStarted(): number {
    return log.split('start worker process ').length - 1
  }
}

function textOf(folder: string, port: number, upstreamPort: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(folder, name)};`,
  )
  return `
    daemon off;
    worker_processes 1;
    worker_shutdown_timeout ${OLD_WORKER_S}s;
    ${process.getuid?.() === 0 ? 'user root;' : ''}
    pid ${join(folder, 'nginx.pid')};
    error_log stderr notice;
    events { worker_connections 256; }
    http {
      access_log off;
      ${temporary.join('\n      ')}
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://127.0.0.1:${upstreamPort};
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_read_timeout ${READ_TIMEOUT_S}s;
        }
      }
    }
  `
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
