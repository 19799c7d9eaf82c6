import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { criServices, loadCriProto } from './proto.ts';

interface Facts {
  readonly package: string;
  readonly services: Readonly<Record<string, Readonly<Record<string, readonly [string, string, 'unary' | 'stream']>>>>;
  readonly messages: Readonly<
    Record<string, Readonly<Record<string, readonly [number, string, 'singular' | 'repeated']>>>
  >;
  readonly enums: Readonly<Record<string, Readonly<Record<string, number>>>>;
}
interface Field {
  readonly name: string;
  readonly number: number;
  readonly label: string;
  readonly type: string;
  readonly typeName: string;
}
interface EnumType {
  readonly name: string;
  readonly value: readonly { readonly name: string; readonly number: number }[];
}
interface Message {
  readonly name: string;
  readonly field: readonly Field[];
  readonly enumType: readonly EnumType[];
  readonly nestedType: readonly (Message & { readonly options: { readonly mapEntry: boolean } | null })[];
}

const facts = JSON.parse(readFileSync(new URL('../../test/fixtures/cri-v1.json', import.meta.url), 'utf8')) as Facts;

function scalar(field: Field): string {
  return field.typeName === '' ? field.type.replace('TYPE_', '').toLowerCase() : field.typeName;
}

function fieldFact(message: Message, field: Field): readonly [number, string, string] {
  const entry = message.nestedType.find(
    (nested) => nested.name === field.typeName && nested.options?.mapEntry === true,
  );
  if (entry !== undefined) {
    const [key, value] = entry.field;
    if (key === undefined || value === undefined) throw new Error('a map entry has two fields');
    return [field.number, `map<${scalar(key)}, ${scalar(value)}>`, 'singular'];
  }
  return [field.number, scalar(field), field.label === 'LABEL_REPEATED' ? 'repeated' : 'singular'];
}

function enumFact(type: EnumType): Record<string, number> {
  return Object.fromEntries(type.value.map((value) => [value.name, value.number]));
}

describe('proto/runtime/v1/api.proto', () => {
  const proto = loadCriProto();

  test('has the messages and enums of the API, number by number', () => {
    const messages: Record<string, unknown> = {};
    const enums: Record<string, unknown> = {};
    for (const definition of Object.values(proto)) {
      if (definition.format === 'Protocol Buffer 3 EnumDescriptorProto') {
        const type = definition.type as EnumType;
        enums[type.name] = enumFact(type);
      } else if (definition.format === 'Protocol Buffer 3 DescriptorProto') {
        const message = definition.type as Message;
        messages[message.name] = Object.fromEntries(
          message.field.map((field) => [field.name, fieldFact(message, field)]),
        );
        for (const type of message.enumType) enums[`${message.name}.${type.name}`] = enumFact(type);
      }
    }
    expect(messages).toEqual(facts.messages);
    expect(enums).toEqual(facts.enums);
  });

  test('has the 43 calls of the API', () => {
    const services = criServices(proto);
    const found = Object.fromEntries(
      [['RuntimeService', services.runtime] as const, ['ImageService', services.image] as const].map(
        ([name, methods]) => [
          name,
          Object.fromEntries(
            Object.entries(methods).map(([method, definition]) => {
              expect(definition.path).toBe(`/${facts.package}.${name}/${method}`);
              expect(definition.requestStream).toBe(false);
              const types = definition as unknown as {
                requestType: { type: Message };
                responseType: { type: Message };
              };
              return [
                method,
                [
                  types.requestType.type.name,
                  types.responseType.type.name,
                  definition.responseStream ? 'stream' : 'unary',
                ],
              ];
            }),
          ),
        ],
      ),
    );
    expect(found).toEqual(facts.services);
    expect(Object.values(found).flatMap((methods) => Object.keys(methods))).toHaveLength(43);
  });
});
