import type { LifecycleStage, Logger } from 'sluice'

/** A line of a log. */
interface Line {
  level: keyof Logger
  message: string
  fields: Record<string, unknown>
}

export interface RecordingLogger extends Logger {
  readonly lines: Line[]
  /** The lines of a stage, in their order. */
  of(stage: LifecycleStage): Line[]
}

/** A logger that keeps what it is told. */
export function recordingLogger(): RecordingLogger {
  const lines: Line[] = []
  const method = (level: keyof Logger) => (fields: object, message: string) => {
    lines.push({ level, message, fields: fields as Line['fields'] })
  }
  return {
    lines,
    debug: method('debug'),
    info: method('info'),
    warn: method('warn'),
    error: method('error'),
    of: (stage) => lines.filter(({ fields }) => fields.stage === stage),
  }
}
