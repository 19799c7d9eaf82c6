import { fileURLToPath } from 'node:url';
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { AppError } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';
import type { ReceiveHandler, StreamHandler } from '../call.ts';
import { receiving, streaming } from '../instrument.ts';
import { loadService } from '../proto.ts';
import type { CriServices } from '../services.ts';
import type { ExportRequest, ExportResponse, ImportRequest, ImportResponse } from './messages.ts';

const protoPath = fileURLToPath(new URL('../../../proto/archives/v1/archives.proto', import.meta.url));

export function archiveServiceDefinition(): ServiceDefinition {
  return loadService(protoPath, 'archives.v1.ArchiveService');
}

export function archiveService(services: CriServices, log: Log): UntypedServiceImplementation {
  return {
    Import: receiving('Import', importArchive(services), log),
    Export: streaming('Export', exportArchive(services), log),
  };
}

function importArchive({ archives }: CriServices): ReceiveHandler<ImportRequest, ImportResponse> {
  return async (messages, { signal }) => {
    const iterator = messages[Symbol.asyncIterator]();
    const first = await iterator.next();
    if (first.done === true) throw new AppError('invalid', 'import: no archive came');
    const { archive, tag, data } = first.value;
    async function* bytes(): AsyncGenerator<Uint8Array> {
      yield data;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value.data;
    }
    const name = archive === '' ? 'the archive' : archive;
    return { images: await archives.import(bytes(), name, tag === '' ? undefined : tag, signal) };
  };
}

function exportArchive({ archives }: CriServices): StreamHandler<ExportRequest, ExportResponse> {
  return async function* ({ image, format }, { signal }) {
    if (image === '') throw new AppError('invalid', 'image is empty');
    for await (const data of archives.export(image, parseFormat(format), signal)) yield { data };
  };
}

function parseFormat(text: string): 'oci' | 'docker' {
  if (text === 'oci' || text === 'docker') return text;
  throw new AppError('invalid', `format of an archive: found "${text}", accepted: oci, docker`);
}
