import { transform } from './jest.config.js';

// Tests with real QEMU, CNI plugins and registry: as root, one file after the other.
export default {
  rootDir: '.',
  roots: ['<rootDir>/test/integration'],
  testMatch: ['**/*.test.ts'],
  testEnvironment: '<rootDir>/test/harness/failure-environment.ts',
  extensionsToTreatAsEsm: ['.ts'],
  transform,
  modulePathIgnorePatterns: ['<rootDir>/target/'],
  maxWorkers: 1,
  // Everything is emulated on two cores; a test that needs more says so.
  testTimeout: 120_000,
};
