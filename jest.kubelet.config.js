import integration from './jest.integration.config.js';

// A kubelet and its control plane against kelyfos: in a private host, by `npm run test:kubelet`.
export default { ...integration, roots: ['<rootDir>/test/kubelet'], testTimeout: 300_000 };
