/**
 * Writes src/cri/gen/cri-types.ts from proto/runtime/v1/api.proto: the messages as the proto loader hands
 * them out (see src/cri/proto.ts). With --check it only compares.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadCriProto } from '../src/cri/proto.ts';

interface Field {
  readonly name: string;
  readonly label: string;
  readonly type: string;
  readonly typeName: string;
}
interface EnumType {
  readonly name: string;
  readonly value: readonly { readonly name: string }[];
}
interface Message {
  readonly name: string;
  readonly field: readonly Field[];
  readonly nestedType: readonly (Message & { readonly options: { readonly mapEntry: boolean } | null })[];
  readonly enumType: readonly EnumType[];
}

const scalars: Readonly<Record<string, string>> = {
  TYPE_STRING: 'string',
  TYPE_BOOL: 'boolean',
  TYPE_BYTES: 'Buffer',
  TYPE_INT32: 'number',
  TYPE_UINT32: 'number',
  TYPE_DOUBLE: 'number',
  // 64-bit integers come as decimal strings.
  TYPE_INT64: 'string',
  TYPE_UINT64: 'string',
};

function enumText(type: EnumType): string {
  return `export type ${type.name} = ${type.value.map((value) => `'${value.name}'`).join(' | ')};\n`;
}

function fieldText(message: Message, field: Field): string {
  const entry = message.nestedType.find(
    (nested) => nested.name === field.typeName && nested.options?.mapEntry === true,
  );
  if (entry !== undefined) return `  readonly ${field.name}: Readonly<Record<string, string>>;\n`;
  const base = scalars[field.type] ?? field.typeName;
  if (field.label === 'LABEL_REPEATED') return `  readonly ${field.name}: readonly ${base}[];\n`;
  return `  readonly ${field.name}: ${base}${field.type === 'TYPE_MESSAGE' ? ' | null' : ''};\n`;
}

function messageText(message: Message): string {
  const enums = message.enumType.map((type) => `${enumText(type)}\n`).join('');
  if (message.field.length === 0) return `${enums}export type ${message.name} = Readonly<Record<string, never>>;\n`;
  return `${enums}export interface ${message.name} {\n${message.field.map((field) => fieldText(message, field)).join('')}}\n`;
}

/** The whole module. Unformatted: prettier leaves generated files alone. */
export function criTypes(): string {
  const parts = Object.values(loadCriProto()).flatMap((definition) => {
    if (definition.format === 'Protocol Buffer 3 EnumDescriptorProto') return [enumText(definition.type as EnumType)];
    if (definition.format === 'Protocol Buffer 3 DescriptorProto') return [messageText(definition.type as Message)];
    return [];
  });
  return `// Generated from proto/runtime/v1/api.proto by scripts/generate-cri-types.ts; do not edit.\n\n${parts.join('\n')}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const path = fileURLToPath(new URL('../src/cri/gen/cri-types.ts', import.meta.url));
  if (!process.argv.includes('--check')) writeFileSync(path, criTypes());
  else if (readFileSync(path, 'utf8') !== criTypes()) {
    process.stderr.write(`${path} is not what the proto says; run scripts/generate-cri-types.ts\n`);
    process.exitCode = 1;
  }
}
