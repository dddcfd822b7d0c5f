import { createMemoryLog } from 'sluice'
import { eventLogSuite } from './event-log.js'

eventLogSuite('the memory log', (limits) => createMemoryLog(limits))
