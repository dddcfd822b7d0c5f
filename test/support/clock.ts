export { ManualClock } from 'sluice/testing'
