import pino from 'pino';

export type Log = pino.Logger;
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** JSON lines on stderr, or readable lines when stderr is a terminal. Keys: sandboxId, containerId, vmId, rpc, err. */
export function createLog(level: LogLevel, terminal: boolean): Log {
  const options: pino.LoggerOptions = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    // Last line of defence: credentials are never handed to the log in the first place.
    redact: ['auth', '*.auth', '*.password', '*.identityToken', '*.registryToken'],
  };
  if (!terminal) return pino(options, pino.destination({ fd: 2, sync: false }));
  const { formatters: _formatters, ...readable } = options;
  return pino({
    ...readable,
    transport: {
      target: 'pino-pretty',
      options: { destination: 2, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss.l' },
    },
  });
}

/** For unit tests and tools that want no log. */
export function silentLog(): Log {
  return pino({ level: 'silent' });
}
