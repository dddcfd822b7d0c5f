import type { Request, Response } from 'express'
import type { FastifyReply } from 'fastify'
import type { Context } from 'koa'
import { createSluice, createSSEHandler, type SSEHandler } from 'sluice'
import { type FastifySSEOptions, fastifySSE } from 'sluice/fastify'
import { describe, expectTypeOf, it } from 'vitest'

type Events = { tick: number }

describe('the types of frameworks', () => {
  it('of Express and Koa are what createSSEHandler takes', () => {
    const express = (req: Request, res: Response) => createSSEHandler<Events>(req, res)
    const koa = (ctx: Context) => createSSEHandler<Events>(ctx.req, ctx.res)
    expectTypeOf(express).returns.toEqualTypeOf<SSEHandler<Events>>()
    expectTypeOf(koa).returns.toEqualTypeOf<SSEHandler<Events>>()
  })

  it('of Fastify have reply.sse, which carries the event map', () => {
    const route = (reply: FastifyReply) => reply.sse<Events>({ retryMs: 1 })
    expectTypeOf(route).returns.toEqualTypeOf<SSEHandler<Events>>()
    expectTypeOf(fastifySSE).parameter(1).toEqualTypeOf<FastifySSEOptions>()
  })

  it('of the plugin take a sluice, but none that waits', () => {
    expectTypeOf({ sluice: createSluice() }).toExtend<FastifySSEOptions>()
    expectTypeOf({ sluice: createSluice({ authorize: () => true }) }).not.toExtend<FastifySSEOptions>()
  })
})
