export default { serverExternalPackages: [] }
