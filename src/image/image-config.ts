import * as z from 'zod';
import { AppError, messageOf } from '../platform/errors.ts';
import type { Platform } from './manifest.ts';

/** What an image says about the processes that run in it. */
export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly workingDir: string;
  readonly user: string;
  readonly stopSignal: string;
  readonly volumes: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export interface ParsedConfig {
  readonly config: ImageConfig;
  readonly platform: Platform;
  /** Digests of the layers' uncompressed tars, from the bottom up. */
  readonly diffIds: readonly string[];
  /** The whole document. */
  readonly spec: unknown;
}

// Builders write null as well as nothing for what is empty.
const strings = z.array(z.string()).nullish();
const text = z.string().nullish();

const configuration = z.looseObject({
  os: text,
  architecture: text,
  rootfs: z.looseObject({ diff_ids: strings }).nullish(),
  config: z
    .looseObject({
      Entrypoint: strings,
      Cmd: strings,
      Env: strings,
      WorkingDir: text,
      User: text,
      StopSignal: text,
      Volumes: z.record(z.string(), z.unknown()).nullish(),
      Labels: z.record(z.string(), z.string()).nullish(),
    })
    .nullish(),
});

/** Reads the configuration of an OCI or docker image. `name` is for the error. */
export function parseConfig(bytes: Uint8Array, name: string): ParsedConfig {
  let spec: unknown;
  try {
    spec = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new AppError('failed-precondition', `configuration of ${name} is not JSON: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const result = configuration.safeParse(spec);
  if (!result.success) {
    throw new AppError(
      'failed-precondition',
      `configuration of ${name} is malformed: ${z.prettifyError(result.error)}`,
      {
        cause: result.error,
      },
    );
  }
  const { os, architecture, rootfs, config } = result.data;
  return {
    config: {
      entrypoint: config?.Entrypoint ?? [],
      cmd: config?.Cmd ?? [],
      env: config?.Env ?? [],
      workingDir: config?.WorkingDir ?? '',
      user: config?.User ?? '',
      stopSignal: config?.StopSignal ?? '',
      volumes: Object.keys(config?.Volumes ?? {}),
      labels: config?.Labels ?? {},
    },
    platform: { os: os ?? '', architecture: architecture ?? '' },
    diffIds: rootfs?.diff_ids ?? [],
    spec,
  };
}
