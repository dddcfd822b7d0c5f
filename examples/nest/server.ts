// NestJS 12 on Express. Run it: npx tsx --tsconfig examples/nest/tsconfig.json examples/nest/server.ts
import 'reflect-metadata'
import { type BeforeApplicationShutdown, Controller, Get, Module, Req, Res } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import type { NestExpressApplication } from '@nestjs/platform-express'
import compression from 'compression'
import type { Request, Response } from 'express'
import { interval } from 'rxjs'
import { createChannel, createSluice } from 'sluice'

const sluice = createSluice()
const ticks = createChannel()
const ticking = interval(500).subscribe((n) => void ticks.publish({ event: 'tick', data: { n } }))

@Controller()
class EventsController implements BeforeApplicationShutdown {
  @Get('events')
  events(@Req() req: Request, @Res() res: Response): void {
    const sse = sluice.open(req, res)
    if (sse === null) return
    ticks.subscribe(sse)
    sse.on('closed', ({ reason }) => console.log(`A client is gone: ${reason}`))
  }

  async beforeApplicationShutdown(): Promise<void> {
    ticking.unsubscribe()
    await sluice.shutdown()
  }
}

@Module({ controllers: [EventsController] })
class AppModule {}

const app = await NestFactory.create<NestExpressApplication>(AppModule, { logger: ['error', 'warn'] })
app.use(compression())
app.enableShutdownHooks()
await app.listen(Number(process.env.PORT ?? 8080))
console.log(`curl -N ${(await app.getUrl()).replace('[::1]', 'localhost')}/events`)
