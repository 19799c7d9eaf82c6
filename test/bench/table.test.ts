import { expect, test } from '@jest/globals';
import { formatTable } from './table.ts';

test('columns are as wide as their widest cell, numbers stand at the right', () => {
  const columns = [
    { title: 'what', align: 'left' },
    { title: 'ms', align: 'right' },
    { title: 'note', align: 'left' },
  ] as const;
  const rows = [
    ['StartContainer', '7.1'],
    ['a', '1234.5', 'slow'],
  ];
  expect(formatTable(columns, rows)).toBe(
    [
      'what                ms  note',
      '--------------  ------  ----',
      'StartContainer     7.1',
      'a               1234.5  slow',
    ].join('\n'),
  );
});

test('a table without rows is its head', () => {
  expect(formatTable([{ title: 'what', align: 'left' }], [])).toBe('what\n----');
});
