// nginx with nchan: a server of its own, written in C. Events are published by HTTP from this process, whose time and
// memory are not counted; those of nginx's one worker are.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EVENT_NAME } from '../lib/events.js'
import { cpuMicrosecondsOf, peakRssOf, writeCallsOf } from '../lib/operating-system.js'
import { until } from '../lib/until.js'

/** Not in the path of most users. */
const NGINX = [
  '/usr/sbin/nginx',
  '/usr/bin/nginx',
  '/usr/local/sbin/nginx',
  '/usr/local/nginx/sbin/nginx',
].find((file) => existsSync(file))

const MODULE = [
  '/usr/lib/nginx/modules/ngx_nchan_module.so',
  '/usr/lib64/nginx/modules/ngx_nchan_module.so',
  '/usr/local/nginx/modules/ngx_nchan_module.so',
  '/etc/nginx/modules/ngx_nchan_module.so',
].find((file) => existsSync(file))

/** Whether nchan is there, on a system that tells what a process takes. */
export function isNchanInstalled() {
  return NGINX !== undefined && MODULE !== undefined && existsSync('/proc/self/stat')
}

export async function createPeer({ history = 1000 }) {
  const directory = mkdtempSync(join(tmpdir(), 'bench-nchan-'))
  const port = await freePort()
  const config = join(directory, 'nginx.conf')
  writeFileSync(config, configuration(directory, port, history))
  const nginx = spawn(NGINX, ['-p', directory, '-c', config, '-e', 'stderr'], { stdio: ['ignore', 2, 2] })
  process.once('exit', () => {
    nginx.kill()
    rmSync(directory, { recursive: true, force: true })
  })
  const ended = once(nginx, 'exit').then(() => {
    throw new Error('nginx ended; what it said is above')
  })
  // It ends with this process, when nobody waits any more.
  ended.catch(() => {})
  const worker = await Promise.race([ended, until('the worker of nginx', () => workerOf(nginx.pid))])
  const publisher = await until('nginx to listen', () => connectTo(port))
  // The answers say how many readers there are; nobody waits for them.
  publisher.resume()

  return {
    listen: async () => port,
    publish: (turn) => void publisher.write(turn.map(publication).join('')),
    async readers() {
      const status = await (await fetch(`http://127.0.0.1:${port}/status`)).text()
      return Number(/subscribers: (\d+)/.exec(status)[1])
    },
    cpuMicroseconds: () => cpuMicrosecondsOf(worker),
    writeCalls: () => writeCallsOf(worker),
    peakRss: () => peakRssOf(worker),
  }
}

function publication(data) {
  const body = JSON.stringify(data)
  return `POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`
}

function configuration(directory, port, history) {
  return `
    load_module ${MODULE};
    daemon off;
    ${process.getuid() === 0 ? 'user root;' : ''}
    worker_processes 1;
    worker_rlimit_nofile 16384;
    pid ${directory}/nginx.pid;
    # Its directory may be gone before it is, which it would tell as an alert.
    error_log stderr emerg;
    events { worker_connections 8192; }
    http {
      access_log off;
      client_body_temp_path ${directory}/body;
      proxy_temp_path ${directory}/proxy;
      fastcgi_temp_path ${directory}/fastcgi;
      uwsgi_temp_path ${directory}/uwsgi;
      scgi_temp_path ${directory}/scgi;
      tcp_nodelay on;
      keepalive_requests 1000000000;
      nchan_shared_memory_size 256m;
      server {
        listen 127.0.0.1:${port};
        location = /publish {
          nchan_publisher;
          nchan_channel_id bench;
          nchan_message_buffer_length ${history};
          nchan_message_timeout 1h;
        }
        location = /status { nchan_stub_status; }
        location = / {
          nchan_subscriber eventsource;
          nchan_channel_id bench;
          nchan_eventsource_event ${EVENT_NAME};
          nchan_eventsource_ping_interval 0;
          nchan_subscriber_first_message newest;
        }
      }
    }
  `
}

/** A port that the system chose for somebody else a moment ago: nginx has to be told one. */
async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

function workerOf(master) {
  const children = `/proc/${master}/task/${master}/children`
  const [worker] = existsSync(children) ? readFileSync(children, 'utf8').split(' ') : ['']
  return worker === '' ? undefined : Number(worker)
}

async function connectTo(port) {
  const socket = net.connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return socket
  } catch {
    return undefined
  }
}
