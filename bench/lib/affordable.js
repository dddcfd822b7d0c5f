/** As many connections as asked for, or as a process may have open: each is a file at both of its ends. */
export function affordable(connections) {
  // Node raises the soft limit to the hard one by itself. Windows has none.
  const openFiles = Number(process.report.getReport().userLimits?.open_files.hard ?? Infinity)
  return Number.isNaN(openFiles) ? connections : Math.min(connections, openFiles - 500)
}
