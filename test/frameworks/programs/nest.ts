import 'reflect-metadata'
import { type CanActivate, Controller, Get, Module, Req, Res } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import type { NestExpressApplication } from '@nestjs/platform-express'
import compression from 'compression'
import type { Request, Response } from 'express'
import { createSSEHandler } from 'sluice'
import { lookUpSession, play, ready, TEXT, wants } from './stage.js'

@Controller()
class EventsController {
  @Get('text')
  text(): string {
    return TEXT
  }

  @Get('events')
  events(@Req() req: Request, @Res() res: Response): void {
    play(createSSEHandler(req, res))
  }
}

@Module({ controllers: [EventsController] })
class AppModule {}

const slowGuard: CanActivate = {
  async canActivate() {
    await lookUpSession()
    return true
  },
}

const app = await NestFactory.create<NestExpressApplication>(AppModule, { logger: ['error', 'warn'] })
if (wants('compression')) app.use(compression())
app.useGlobalGuards(slowGuard)
await app.listen(0, '127.0.0.1')
ready(app.getHttpServer(), () => app.close())
