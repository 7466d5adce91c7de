/** Tests the numbers and layouts of io_uring, and of all system calls, against the headers of the kernel, for x64 and arm64. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CMD_GETSOCKOPT,
  CMD_SETSOCKOPT,
  CQE_MORE,
  Cqe,
  Feature,
  OFF_RINGS,
  OFF_SQES,
  Op,
  Params,
  POLL_MULTISHOT,
  Setup,
  SQ_CQ_OVERFLOW,
  SQ_TASKRUN,
  Sqe,
  SqeFlag,
} from '../../../src/engine/drivers/uring-binding.ts';
import { HEADERS_SKIP, headerValues, isBefore, numbersIn } from '../../support/kernel-headers.ts';

/** What headers before that kernel do not have. */
const SINCE: Readonly<Record<string, string>> = {
  IORING_SETUP_NO_SQARRAY: '6.6',
  SOCKET_URING_OP_GETSOCKOPT: '6.7',
  SOCKET_URING_OP_SETSOCKOPT: '6.7',
  IORING_OP_FIXED_FD_INSTALL: '6.8',
  IORING_OP_BIND: '6.11',
  IORING_OP_LISTEN: '6.11',
};

const SQE = 'struct io_uring_sqe';
const PARAMS = 'struct io_uring_params';

/** Words of an entry: the fields that stand there. */
const SQE_FIELDS: Readonly<Record<string, readonly string[]>> = {
  HEAD: ['opcode'],
  FD: ['fd'],
  OFF: ['off', 'addr2', 'cmd_op'],
  ADDR: ['addr'],
  LEN: ['len'],
  OP_FLAGS: ['msg_flags', 'poll32_events', 'cancel_flags', 'accept_flags'],
  USER_LOW: ['user_data'],
  FILE_INDEX: ['file_index'],
  ADDR3: ['addr3', 'cmd'],
};
/** The second words of fields with two. */
const HALVES = ['OFF_HIGH', 'ADDR_HIGH', 'USER_HIGH', 'ADDR3_HIGH'];

const PARAMS_FIELDS: Readonly<Record<string, string>> = {
  SQ_ENTRIES: 'sq_entries',
  CQ_ENTRIES: 'cq_entries',
  FLAGS: 'flags',
  FEATURES: 'features',
  SQ_HEAD: 'sq_off.head',
  SQ_TAIL: 'sq_off.tail',
  SQ_MASK: 'sq_off.ring_mask',
  SQ_FLAGS: 'sq_off.flags',
  SQ_ARRAY: 'sq_off.array',
  CQ_HEAD: 'cq_off.head',
  CQ_TAIL: 'cq_off.tail',
  CQ_MASK: 'cq_off.ring_mask',
  CQ_OVERFLOW: 'cq_off.overflow',
  CQ_CQES: 'cq_off.cqes',
};

/** Names of uring-binding.ts that are no names of C. */
const PRIVATE: Readonly<Record<string, string>> = {
  SYS_IO_URING_SETUP: '__NR_io_uring_setup',
  SYS_IO_URING_ENTER: '__NR_io_uring_enter',
  SYS_IO_URING_REGISTER: '__NR_io_uring_register',
  PROT_READ_WRITE: 'PROT_READ | PROT_WRITE',
  MAP_SHARED: 'MAP_SHARED',
  MAP_PRIVATE: 'MAP_PRIVATE',
  MAP_ANONYMOUS: 'MAP_ANONYMOUS',
  MAP_POPULATE: 'MAP_POPULATE',
  ENTER_GETEVENTS: 'IORING_ENTER_GETEVENTS',
  ENTER_EXT_ARG: 'IORING_ENTER_EXT_ARG',
  WAIT_ARG_BYTES: 'sizeof(struct io_uring_getevents_arg)',
  WAIT_ARG_TS: 'offsetof(struct io_uring_getevents_arg, ts)',
  REGISTER_EVENTFD: 'IORING_REGISTER_EVENTFD',
  REGISTER_PROBE: 'IORING_REGISTER_PROBE',
  REGISTER_FILES2: 'IORING_REGISTER_FILES2',
  RSRC_REGISTER_BYTES: 'sizeof(struct io_uring_rsrc_register)',
  RSRC_REGISTER_SPARSE: 'IORING_RSRC_REGISTER_SPARSE',
  PROBE_HEAD_BYTES: 'sizeof(struct io_uring_probe)',
  PROBE_OP_BYTES: 'sizeof(struct io_uring_probe_op)',
  PROBE_OP_FLAGS: 'offsetof(struct io_uring_probe_op, flags)',
  // An unsigned word in C, and a signed one here.
  FILE_INDEX_ALLOC: '(int)IORING_FILE_INDEX_ALLOC',
  PROBE_OP_SUPPORTED: 'IO_URING_OP_SUPPORTED',
  F_SETFL: 'F_SETFL',
  O_NONBLOCK: 'O_NONBLOCK',
};
/** Numbers of ours, and those that stand below with their exported names. */
const OURS = ['PROBE_OPS', 'OFF_RINGS', 'OFF_SQES', 'SQ_CQ_OVERFLOW', 'SQ_TASKRUN', 'CQE_MORE'];
const OURS_TOO = ['CMD_GETSOCKOPT', 'CMD_SETSOCKOPT', 'POLL_MULTISHOT', 'WAIT_MEMORY_BYTES'];

/** Each C expression with our number. */
function expected(): Map<string, number> {
  const all = new Map<string, number>();
  const add = (expression: string, value: number): unknown => all.set(expression, value);
  for (const [name, value] of Object.entries(Setup)) add(`IORING_SETUP_${name}`, value);
  for (const [name, value] of Object.entries(Feature)) add(`IORING_FEAT_${name}`, value);
  for (const [name, value] of Object.entries(Op)) add(`IORING_OP_${name}`, value);
  // They stand in the second byte of the first word.
  add(`offsetof(${SQE}, flags)`, 1);
  for (const [name, value] of Object.entries(SqeFlag))
    add(
      `IOSQE_${name === 'LINK' ? 'IO_LINK' : name === 'SKIP_SUCCESS' ? 'CQE_SKIP_SUCCESS' : name}`,
      value >> 8,
    );
  add(`sizeof(${SQE})`, Sqe.WORDS * 4);
  for (const [name, fields] of Object.entries(SQE_FIELDS))
    for (const field of fields) add(`offsetof(${SQE}, ${field})`, Sqe[name as keyof typeof Sqe] * 4);
  add('sizeof(struct io_uring_cqe)', Cqe.WORDS * 4);
  add('offsetof(struct io_uring_cqe, user_data)', Cqe.USER_LOW * 4);
  add('offsetof(struct io_uring_cqe, res)', Cqe.RES * 4);
  add('offsetof(struct io_uring_cqe, flags)', Cqe.FLAGS * 4);
  add(`sizeof(${PARAMS})`, Params.BYTES);
  for (const [name, field] of Object.entries(PARAMS_FIELDS))
    add(`offsetof(${PARAMS}, ${field})`, Params[name as keyof typeof Params]);
  add('IORING_OFF_SQ_RING', OFF_RINGS);
  add('IORING_OFF_SQES', OFF_SQES);
  add('IORING_SQ_CQ_OVERFLOW', SQ_CQ_OVERFLOW);
  add('IORING_SQ_TASKRUN', SQ_TASKRUN);
  add('IORING_CQE_F_MORE', CQE_MORE);
  add('SOCKET_URING_OP_GETSOCKOPT', CMD_GETSOCKOPT);
  add('SOCKET_URING_OP_SETSOCKOPT', CMD_SETSOCKOPT);
  add('IORING_POLL_ADD_MULTI', POLL_MULTISHOT);
  const numbers = numbersIn('src/engine/drivers/uring-binding.ts');
  for (const [name, value] of numbers) {
    if (OURS.includes(name) || OURS_TOO.includes(name)) continue;
    assert(PRIVATE[name], `${name} of uring-binding.ts is checked against no header`);
    add(PRIVATE[name], value);
  }
  assert(numbers.size > 25, 'the numbers of the source are found');
  return all;
}

for (const machine of ['own', 'other'] as const) {
  test(`numbers and layouts of io_uring are those of the kernel's headers: ${machine} architecture`, {
    skip: HEADERS_SKIP,
  }, (t) => {
    const ours = expected();
    const { values, missing, version } = headerValues(machine, [...ours.keys()]);
    for (const [expression, value] of values)
      assert.equal(ours.get(expression), value, `${expression}, in the headers of Linux ${version}`);
    for (const expression of missing)
      assert(
        SINCE[expression] !== undefined && isBefore(version, SINCE[expression]),
        `${expression} must be in the headers of Linux ${version}`,
      );
    t.diagnostic(
      `headers of Linux ${version}: ${values.size} agree; too new for them: ${missing.join(', ')}`,
    );
  });
}

test('each word of an entry, and each field of the parameters, is among those that are checked', () => {
  const words = [...Object.keys(SQE_FIELDS), ...HALVES, 'WORDS'];
  assert.deepEqual(Object.keys(Sqe).sort(), words.sort());
  assert.deepEqual(Object.keys(Params).sort(), [...Object.keys(PARAMS_FIELDS), 'BYTES'].sort());
  assert.equal(Sqe.OFF_HIGH, Sqe.OFF + 1);
  assert.equal(Sqe.ADDR_HIGH, Sqe.ADDR + 1);
  assert.equal(Sqe.USER_HIGH, Sqe.USER_LOW + 1);
  assert.equal(Sqe.ADDR3_HIGH, Sqe.ADDR3 + 1);
});
