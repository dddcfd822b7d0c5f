export default { compress: process.argv.includes('compression') }
