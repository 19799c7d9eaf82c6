import { fileURLToPath } from 'node:url';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadSync, type Options, type PackageDefinition } from '@grpc/proto-loader';

/** The interface description that this build serves. */
export const criProtoPath = fileURLToPath(new URL('../../proto/runtime/v1/api.proto', import.meta.url));

/**
 * How messages look in TypeScript; gen/cri-types.ts describes exactly this.
 *  - keepCase: names as in the proto, so that logs and errors speak the API's language
 *  - longs as decimal strings: neither rounded (numbers) nor a class of their own (Long)
 *  - enums by name; a number that this build does not know stays a number
 *  - defaults: every field is there; an absent message is null, which is how "no filter" and
 *    "no auth" differ from empty ones
 */
const loaderOptions: Options = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: false };

export function loadCriProto(): PackageDefinition {
  return loadSync(criProtoPath, loaderOptions);
}

export interface CriServiceDefinitions {
  readonly runtime: ServiceDefinition;
  readonly image: ServiceDefinition;
}

export function criServices(proto: PackageDefinition = loadCriProto()): CriServiceDefinitions {
  return {
    runtime: serviceOf(proto, 'runtime.v1.RuntimeService', criProtoPath),
    image: serviceOf(proto, 'runtime.v1.ImageService', criProtoPath),
  };
}

/** A service of another interface description, in the same shape. */
export function loadService(path: string, name: string): ServiceDefinition {
  return serviceOf(loadSync(path, loaderOptions), name, path);
}

function serviceOf(proto: PackageDefinition, name: string, path: string): ServiceDefinition {
  const definition = proto[name];
  if (definition === undefined || 'format' in definition) throw new Error(`${path} has no service ${name}`);
  return definition;
}
