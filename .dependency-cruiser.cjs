// The arrows: main -> cri -> podsandbox -> {vm, agent, network, image, store, host, tracing} -> platform.
// Never up, never sideways.
const bottomRow = ['vm', 'agent', 'network', 'image', 'store', 'host', 'tracing'];
const tests = '\\.test\\.ts$';

module.exports = {
  forbidden: [
    {
      name: 'no-circular',
      severity: 'error',
      comment: 'Modules that need each other are one module. Types alone may form a circle.',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'platform-is-the-ground',
      severity: 'error',
      comment: 'src/platform knows nothing of what stands on it.',
      from: { path: '^src/platform/' },
      to: { path: '^src/', pathNot: '^src/platform/' },
    },
    {
      name: 'bottom-row-not-sideways-or-up',
      severity: 'error',
      comment:
        'What an adapter needs from a neighbour comes in through its constructor, typed by an interface of its own.',
      from: { path: `^src/(${bottomRow.filter((part) => part !== 'host').join('|')})/` },
      to: { path: '^src/', pathNot: '^src/($1|platform)/' },
    },
    {
      name: 'host-is-a-client-of-the-cri',
      severity: 'error',
      comment: 'src/host speaks to another runtime in the messages of the CRI, through a client that is handed in.',
      from: { path: '^src/host/' },
      to: { path: '^src/', pathNot: '^src/(host|platform)/|^src/cri/(gen/|calls?\\.ts)' },
    },
    {
      name: 'host-takes-the-cri-as-types',
      severity: 'error',
      from: { path: '^src/host/' },
      to: { path: '^src/cri/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'podsandbox-not-up',
      severity: 'error',
      comment: 'The domain does not know who calls it. Generated CRI types may go below.',
      from: { path: '^src/podsandbox/' },
      to: { path: '^src/', pathNot: `^src/(podsandbox|platform|${bottomRow.join('|')}|cri/gen)/` },
    },
    {
      name: 'generated-cri-types-only-as-types',
      severity: 'error',
      comment: 'Below src/cri the generated CRI files serve as types only.',
      from: { path: '^src/', pathNot: '^src/cri/' },
      to: { path: '^src/cri/gen/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'cri-not-up-and-not-past-the-domain',
      severity: 'error',
      comment: 'src/cri speaks to src/podsandbox; it reaches no adapter itself.',
      from: { path: '^src/cri/', pathNot: tests },
      to: { path: '^src/', pathNot: '^src/(cri|podsandbox|platform)/' },
    },
    {
      name: 'ports-belong-to-their-consumer',
      severity: 'error',
      comment: 'Implementations fit the ports by their shape; src/daemon.ts says `satisfies`.',
      from: { path: `^src/(${bottomRow.join('|')})/` },
      to: { path: 'ports\\.ts$', pathNot: '^src/$1/' },
    },
    {
      name: 'configuration-is-handed-down',
      severity: 'error',
      comment: 'src/daemon.ts turns the configuration into options of each part.',
      from: { path: '^src/(cri|podsandbox|platform|vm|agent|network|image|store|host|tracing)/' },
      to: { path: '^src/config/' },
    },
    {
      name: 'configuration-stands-alone',
      severity: 'error',
      comment: 'src/config reads and checks; it uses src/platform and nothing else of ours.',
      from: { path: '^src/config/' },
      to: { path: '^src/', pathNot: '^src/(config|platform)/' },
    },
    {
      name: 'nobody-imports-main',
      severity: 'error',
      comment: 'src/daemon.ts alone builds the services, for src/main.ts.',
      from: {},
      to: { path: '^src/main\\.ts$' },
    },
    {
      name: 'grpc-js-only-at-the-edges',
      severity: 'error',
      comment: 'src/cri serves CRI; src/host and src/cli are clients of it. Nobody else speaks gRPC by grpc-js.',
      from: { path: '^src/', pathNot: '^src/(cri|host|cli)/|^src/main\\.ts$' },
      to: { path: 'node_modules/@grpc/grpc-js', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'connect-only-in-agent',
      severity: 'error',
      comment: 'The protocol of the guest agent ends in src/agent.',
      from: { path: '^src/', pathNot: '^src/agent/' },
      to: { path: 'node_modules/@connectrpc/' },
    },
    {
      name: 'lmdb-only-in-store',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/store/' },
      to: { path: 'node_modules/lmdb/' },
    },
    {
      name: 'src-does-not-import-tests-or-scripts',
      severity: 'error',
      from: { path: '^src/', pathNot: tests },
      to: { path: '^(test|scripts)/' },
    },
    {
      name: 'product-code-not-from-test-files',
      severity: 'error',
      from: { pathNot: `${tests}|^test/` },
      to: { path: tests },
    },
    {
      name: 'no-dev-dependencies-in-the-product',
      severity: 'error',
      from: { path: '^src/', pathNot: `${tests}|/testing/|fake` },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'], pathNot: 'node_modules/@types/' },
    },
    {
      name: 'not-to-unresolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^src/agent/gen/.*\\.d\\.ts$' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.js', '.d.ts', '.json'],
    },
    skipAnalysisNotInRules: true,
  },
};
