import { z } from 'zod';

/**
 * One CDI file: devices of one kind, and what a container that is given one gets. Fields that are
 * not known are errors, as in the reference implementation.
 * https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
 */

/** All that have been published; each only adds fields to the one before. */
const versions = ['0.3.0', '0.4.0', '0.5.0', '0.6.0', '0.7.0', '0.8.0', '1.0.0', '1.1.0'] as const;

const absolutePath = z.string().startsWith('/', 'is not an absolute path');
const id = z.int().min(0).max(0xffff_fffe);

const deviceNode = z.strictObject({
  path: absolutePath,
  /** The device on the host, when its path differs. */
  hostPath: absolutePath.optional(),
  type: z.enum(['b', 'c', 'u', 'p']).optional(),
  major: z.int().min(0).optional(),
  minor: z.int().min(0).optional(),
  fileMode: z.int().min(0).optional(),
  permissions: z
    .string()
    .regex(/^[rwm]*$/, 'is not made of r, w and m')
    .optional(),
  uid: id.optional(),
  gid: id.optional(),
});

const mount = z.strictObject({
  hostPath: z.string().min(1),
  containerPath: absolutePath,
  options: z.array(z.string()).optional(),
  type: z.string().optional(),
});

const hook = z.strictObject({
  hookName: z.string(),
  path: absolutePath,
  args: z.array(z.string()).optional(),
  env: z.array(z.string()).optional(),
  timeout: z.int().optional(),
});

const edits = z.strictObject({
  env: z.array(z.string().regex(/^[^=\0]+=[^\0]*$/, 'is not NAME=value')).optional(),
  deviceNodes: z.array(deviceNode).optional(),
  netDevices: z.array(z.looseObject({})).optional(),
  mounts: z.array(mount).optional(),
  hooks: z.array(hook).optional(),
  intelRdt: z.looseObject({}).optional(),
  additionalGids: z.array(id).optional(),
});

const annotations = z.record(z.string(), z.string());

export const cdiSpec = z.strictObject({
  cdiVersion: z.enum(versions),
  kind: z
    .string()
    .regex(/^[A-Za-z]([\w.-]*[A-Za-z0-9])?\/[A-Za-z]([\w-]*[A-Za-z0-9])?$/, 'is not of the form vendor/class'),
  annotations: annotations.optional(),
  devices: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[A-Za-z0-9]([\w.:-]*[A-Za-z0-9])?$/, 'is not the name of a device'),
        annotations: annotations.optional(),
        containerEdits: edits,
      }),
    )
    .min(1),
  containerEdits: edits.optional(),
});

export type CdiSpec = z.output<typeof cdiSpec>;
export type CdiEdits = z.output<typeof edits>;
