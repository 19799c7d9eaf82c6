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
  const service = (name: string): ServiceDefinition => {
    const definition = proto[`runtime.v1.${name}`];
    if (definition === undefined || 'format' in definition) throw new Error(`${criProtoPath} has no service ${name}`);
    return definition;
  };
  return { runtime: service('RuntimeService'), image: service('ImageService') };
}
