import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parse, stringify, TomlError } from 'smol-toml';
import { hasCode, messageOf } from '../platform/errors.ts';
import { compileConfig, type Config } from './config.ts';
import { type Layer, mergeLayers } from './layers.ts';
import { ConfigError, type Problem, problemsOf } from './problems.ts';
import { checkReferences } from './references.ts';
import { builtIn, type ConfigFile, configSchema } from './schema.ts';

export const defaultConfigPath = '/etc/kelyfos/config.toml';

/** Settings of the command line: they win over every file. */
export interface ConfigFlags {
  readonly root?: string | undefined;
  readonly state?: string | undefined;
  readonly socket?: string | undefined;
  readonly logLevel?: string | undefined;
}

export interface LoadedConfig {
  readonly config: Config;
  /** The same with every default filled in, in the form of the files. */
  readonly file: ConfigFile;
  /** The files that were read, in the order they were applied. */
  readonly files: readonly string[];
  /** Where a key was set: a file or a flag; undefined when it has its default. */
  readonly sourceOf: (key: string) => string | undefined;
}

async function readLayer(path: string, problems: Problem[]): Promise<Layer | undefined> {
  try {
    return { source: path, values: parse(await readFile(path, 'utf8')) };
  } catch (error) {
    const text =
      error instanceof TomlError
        ? `not valid TOML at line ${String(error.line)}, column ${String(error.column)}: ${error.message.split('\n')[0] ?? ''}`
        : `cannot be read: ${messageOf(error)}`;
    problems.push({ source: path, key: '', text });
    return undefined;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await readFile(path);
    return true;
  } catch (error) {
    // Anything else than absence is reported when it is read.
    return !hasCode(error, 'ENOENT', 'ENOTDIR');
  }
}

async function dropIns(folder: string): Promise<readonly string[]> {
  try {
    const names = await readdir(folder);
    return names
      .filter((name) => name.endsWith('.toml') && !name.startsWith('.'))
      .sort((a, b) => (a < b ? -1 : 1))
      .map((name) => join(folder, name));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}

function flagLayers(flags: ConfigFlags): readonly Layer[] {
  const layers: Layer[] = [];
  if (flags.root !== undefined) layers.push({ source: '--root', values: { root: flags.root } });
  if (flags.state !== undefined) layers.push({ source: '--state', values: { state: flags.state } });
  if (flags.socket !== undefined) layers.push({ source: '--socket', values: { socket: flags.socket } });
  if (flags.logLevel !== undefined) layers.push({ source: '--log-level', values: { log: { level: flags.logLevel } } });
  return layers;
}

/**
 * The first stage: reads the file (`path` given: it must exist), then config.d/*.toml beside it in
 * lexical order, then the flags, and checks the shape of the whole. Throws a ConfigError that names
 * every problem. Nothing of the host is looked at; that is `checkHost`.
 */
export async function loadConfig(path: string | undefined, flags: ConfigFlags = {}): Promise<LoadedConfig> {
  const main = path ?? defaultConfigPath;
  const present = path !== undefined || (await exists(main));
  const files = [...(present ? [main] : []), ...(await dropIns(join(dirname(main), 'config.d')))];

  const unreadable: Problem[] = [];
  const fileLayers = await Promise.all(files.map((file) => readLayer(file, unreadable)));
  if (unreadable.length > 0) throw new ConfigError(unreadable);

  const set = mergeLayers([...fileLayers.filter((layer) => layer !== undefined), ...flagLayers(flags)]);
  const { values } = mergeLayers([
    { source: 'default', values: builtIn },
    { source: 'set', values: set.values },
  ]);
  const result = configSchema.safeParse(values);
  const problems = [
    ...problemsOf(result.error?.issues ?? [], values, set.sourceOf),
    ...checkReferences(values, set.sourceOf),
  ];
  if (problems.length > 0 || !result.success) throw new ConfigError(problems);

  return {
    config: compileConfig(result.data),
    file: result.data,
    files,
    sourceOf: set.sourceOf,
  };
}

/** The effective configuration as a file that says the same. */
export function printConfig({ file, files }: Pick<LoadedConfig, 'file' | 'files'>): string {
  const origin = files.length === 0 ? 'defaults only' : `defaults and ${files.join(', ')}`;
  return `# effective configuration: ${origin}\n${stringify(file)}`;
}
