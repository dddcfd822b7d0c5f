/** Answers the calls of the process that started this one, and ends with it. */
export function answerCalls(handlers) {
  process.on('message', async ({ id, name, args }) => {
    try {
      answer({ id, result: await handlers[name](...args) })
    } catch (error) {
      answer({ id, error: error.stack })
    }
  })
  process.on('disconnect', () => process.exit())
}

function answer(message) {
  if (process.connected) process.send(message, () => {})
}
