import {
  create,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { type CallOptions, type Client, makeAnyClient } from '@connectrpc/connect';
import { GrpcCall, type GrpcConnection } from './grpc-call.ts';

/**
 * A client of connect's kind that speaks gRPC as the agent does: no compression, no metadata, no deadlines. Connect's
 * own transport passes each message through a row of async generators, which took 0.8 ms of a call of 3.7 ms.
 */
export function grpcClient<S extends DescService>(
  service: S,
  connection: GrpcConnection,
  maxMessageBytes: number,
): Client<S> {
  const client = makeAnyClient(service, ({ name, methodKind, input, output }) => {
    type Request = MessageInitShape<typeof input>;
    const encode = (message: Request): Uint8Array => toBinary(input, create(input, message));
    const decode = (message: Uint8Array): MessageShape<typeof output> => fromBinary(output, message);
    const path = `/${service.typeName}/${name}`;
    const open = (options: CallOptions | undefined): GrpcCall =>
      new GrpcCall(connection, { path, maxMessageBytes, signal: options?.signal });
    const sendOne = (request: Request, options?: CallOptions): GrpcCall => {
      const message = encode(request);
      const call = open(options);
      call.sendOnly(message);
      return call;
    };
    const sendAll = (requests: AsyncIterable<Request>, options?: CallOptions): GrpcCall => {
      const call = open(options);
      void call.send(requests, encode);
      return call;
    };
    switch (methodKind) {
      case 'unary':
        return async (request: Request, options?: CallOptions) => sendOne(request, options).receiveOnly(decode);
      case 'client_streaming':
        return async (requests: AsyncIterable<Request>, options?: CallOptions) =>
          sendAll(requests, options).receiveOnly(decode);
      case 'server_streaming':
        return (request: Request, options?: CallOptions) => sendOne(request, options).receive(decode);
      case 'bidi_streaming':
        return (requests: AsyncIterable<Request>, options?: CallOptions) => sendAll(requests, options).receive(decode);
    }
  });
  return client as Client<S>;
}
