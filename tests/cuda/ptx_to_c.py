"""Translates the PTX of a kernel, as LLVM and NVRTC write it, into C for the imitated driver: `ptx_to_c.py MODULE.ptx > module.c`.

One statement of PTX becomes one of C; a register becomes a variable of its width, and numbers are read out of it (`f32(v_r1)`).
An instruction that is not known ends the translation with its name."""

import re
import sys

UNSIGNED = {1: "int", 8: "uint8_t", 16: "uint16_t", 32: "uint32_t", 64: "uint64_t"}
SIGNED = {8: "int8_t", 16: "int16_t", 32: "int32_t", 64: "int64_t"}
FLOATS = ("f16", "bf16", "f32", "f64")
ROUND = {"rni": "rint", "rmi": "floor", "rpi": "ceil", "rzi": "trunc"}
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
BITS = {"and": "&", "or": "|", "xor": "^"}
SPECIAL = {f"%{name}.{axis}": f"t->{name}[{i}]" for name in ("tid", "ctaid", "ntid", "nctaid") for i, axis in enumerate("xyz")}
SPECIAL |= {"WARP_SZ": "32", "%laneid": "t->lane", "%lanemask_lt": "((1u << t->lane) - 1)"}
# Of floats: C for f32, with (a, b, c) in place of the operands; the same in double for f64.
FLOAT_OPS = {
    "add": "{a} + {b}", "sub": "{a} - {b}", "mul": "{a} * {b}", "div": "{a} / {b}", "neg": "-{a}", "abs": "fabs({a})",
    "max": "larger({a}, {b})", "min": "smaller({a}, {b})", "rcp": "1 / {a}", "sqrt": "sqrt({a})", "rsqrt": "1 / sqrt({a})",
    "ex2": "exp2({a})", "lg2": "log2({a})", "sin": "sin({a})", "cos": "cos({a})", "tanh": "tanh({a})",
    "copysign": "copysign({b}, {a})",
}  # fmt: skip
INT_OPS = {
    "add": "({u}){a} + ({u}){b}", "sub": "({u}){a} - ({u}){b}", "div": "({b} ? {a} / {b} : -1)", "rem": "({b} ? {a} % {b} : {a})",
    "min": "({a} < {b} ? {a} : {b})", "max": "({a} > {b} ? {a} : {b})", "neg": "0 - ({u}){a}", "abs": "({a} < 0 ? 0 - {a} : {a})",
}  # fmt: skip
ATOMIC_OPS = {
    "add": "old + {a}", "min": "(({t})old < {a} ? old : {a})", "max": "(({t})old > {a} ? old : {a})", "exch": "{a}",
    "and": "old & {a}", "or": "old | {a}", "xor": "old ^ {a}", "cas": "(old == {a} ? {b} : old)",
}  # fmt: skip
NOTHING = ("membar", "fence", "nanosleep", "griddepcontrol", "prefetch", "prefetchu", "discard")


def issued(operation):
    """About how many instructions of the machine one of PTX becomes, by what ptxas makes of them for sm_80."""
    name, *parts = operation.split(".")
    is_64 = parts and parts[-1] in ("u64", "s64", "b64")
    if name in ("mov", "cvta", "ret", "exit"):
        return 0
    if name in ("div", "rem") and parts[-1][0] in "us":
        return 80 if is_64 else 20
    if name in ("div", "rcp", "sqrt", "rsqrt") and "approx" not in parts:
        return 10
    if is_64 and name in ("mul", "mad"):
        return 1 if "wide" in parts else 4
    return 2 if is_64 and name not in ("ld", "st", "cvt") else 1


class Unknown(Exception):
    pass


def width(kind):
    return 1 if kind == "pred" else int(re.search(r"\d+", kind).group())


def cut(text):
    """At the commas outside brackets and braces."""
    return [part.strip() for part in re.split(r",(?![^\[{]*[\]}])", text) if part.strip()]


def listed(operand):
    return cut(operand[1:-1]) if operand.startswith("{") else [operand]


def label(name):
    return "L" + name.replace("$", "_")


def variable(register):
    return "v_" + register[1:].replace(".", "_")


class Kernel:
    def __init__(self, text):
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
        # Where a line came from, as NVRTC tells it: lines of their own without an end, and a section after the kernel.
        text = re.sub(r"^[ \t]*\.(?:loc|file)\b[^\n]*", "", text, flags=re.M)
        text = re.sub(r"^[ \t]*\.section\b.*", "", text, flags=re.M | re.S)
        # Registers of a scope may have no percent sign, and one name in many scopes.
        for name in set(re.findall(r"\.reg\s+\.\w+\s+([A-Za-z_][\w$]*)\s*;", text)):
            text = re.sub(rf"(?<![\w.%$]){re.escape(name)}(?![\w$])", "%scoped_" + name.replace("$", "_"), text)
        entry = re.search(r"\.visible \.entry \w+\s*\((.*?)\)", text, re.S)
        if ".func" in text:
            raise Unknown("a function beside the kernel")
        self.parameters = [re.search(r"([\w$]+)(?:\[\d+\])?$", one).group(1) for one in cut(entry.group(1))]
        begin = text.index("{", entry.end())
        self.shared, self.shared_bytes, self.memory = {}, 0, {}
        self.variables, self.tables, self.widths, self.statements = [], [], {}, []
        self.branches, self.meets = {}, False
        for declared in re.findall(r"^\s*((?:\.visible |\.extern )*\.(?:shared|global|const)\s[^;]*);", text[: entry.start()], re.M):
            self.declare(declared)
        self.translate(text[begin + 1 : text.rindex("}")])

    def code(self):
        lines = ['#include "ptx.h"', "#include <stdlib.h>", *self.tables, "static void kernel(Thread *t) {", *self.variables]
        lines += [*self.statements, "return;", "}", "void launch(unsigned *blocks, unsigned *threads, unsigned shared, void **arguments) {"]
        return "\n".join([*lines, f"ptx_run(kernel, blocks, threads, shared + {self.shared_bytes}, arguments, {int(self.meets)});", "}"])

    def translate(self, body):
        # Braces that begin where a statement could, and end after one, are scopes; labels end with a colon.
        for brace in (r"(;\s*)\}", r"((?:^|[;:])\s*)\{"):
            while re.search(brace, body):
                body = re.sub(brace, r"\1", body)
        statements = re.findall(r"(?:[^;:{}]|\{[^}]*\}|:(?!\s))*?(?:;|:(?=\s))", body)
        if re.sub(r"\s", "", "".join(statements)) != re.sub(r"\s", "", body):
            raise Unknown("a statement that is not ended")
        last_label = ""
        for statement in (" ".join(one.split()) for one in statements):
            content = statement[:-1].strip()
            if statement.endswith(":"):
                last_label = content
                self.statements.append(f"{label(content)}:;")
            elif content.startswith(".branchtargets"):
                self.branches[last_label] = cut(content.removeprefix(".branchtargets"))
            elif content.startswith(".reg"):
                self.registers(*content.split(" ", 2)[1:])
            elif re.match(r"\.(shared|local|extern|global)", content):
                self.declare(content)
            elif content and not content.startswith(".pragma"):
                guard, content = re.match(r"(?:@(!?%\w+) )?(.*)", content).groups()
                operation, _, operands = content.partition(" ")
                translated = self.instruction(operation, cut(operands))
                condition = f"if ({self.predicate(guard)}) " if guard else ""
                self.statements.append(f"t->issued += {issued(operation)}; {condition}{{ {translated} }}")

    def registers(self, kind, names):
        for name in cut(names):
            if self.widths.get(name) == width(kind[1:]):
                continue
            if name in self.widths:
                raise Unknown(f"{name} of two widths")
            many = re.match(r"(%\w+)<(\d+)>", name)
            self.widths[many.group(1) if many else name] = width(kind[1:])
            all_names = [f"{many.group(1)}{i}" for i in range(int(many.group(2)))] if many else [name]
            self.variables.append(f"{UNSIGNED[width(kind[1:])]} {', '.join(variable(one) + ' = 0' for one in all_names)};")

    def declare(self, text):
        found = re.match(r"(?:\.visible |\.extern )*\.(\w+) (?:\.align \d+ )?\.(\w+) ([\w$]+)(?:\[(\d*)\])?(?: = (.*))?$", text.strip(), re.S)
        if not found:
            raise Unknown(text)
        space, kind, name, count, value = found.groups()
        size, c_name = width(kind) // 8 * int(count or (count is None)), "m_" + name.replace("$", "_")
        if space == "shared":
            self.shared_bytes = (self.shared_bytes + 127) // 128 * 128
            self.shared[name] = self.shared_bytes
            self.shared_bytes += size
            return
        self.memory[name] = c_name
        if space == "local":
            self.variables.append(f"uint8_t {c_name}[{size}] __attribute__((aligned(16)));")
        else:
            value = value if value and value.startswith("{") else f"{{{value or 0}}}"
            self.tables.append(f"static {UNSIGNED[width(kind)]} {c_name}[{count or 1}] __attribute__((aligned(16))) = {value};")

    # ---- operands

    def width_of(self, register):
        return self.widths.get(register) or self.widths[re.match(r"%[a-zA-Z_]+", register).group()]

    def predicate(self, operand):
        return "!" + variable(operand[1:]) if operand.startswith("!") else self.value(operand)

    def value(self, operand, bits=None):
        if operand in SPECIAL:
            return SPECIAL[operand]
        if operand.startswith("%"):
            return variable(operand)
        if re.match(r"0[fF][0-9a-fA-F]{8}$|0[dD][0-9a-fA-F]{16}$", operand):
            return f"0x{operand[2:]}ull"
        if re.match(r"-?(0x[0-9a-fA-F]+|\d+)U?$", operand):
            # The least of 64 bits is no literal of C.
            number = int(operand.rstrip("U"), 0) % (1 << 64)
            return f"(({UNSIGNED[bits]}){number}ull)" if bits in (16, 32, 64) else str(number)
        if operand in self.shared:
            return f"((uint64_t)(t->shared + {self.shared[operand]}))"
        if operand in self.memory:
            return f"((uint64_t){self.memory[operand]})"
        if operand in self.parameters:
            return f"((uint64_t)t->arguments[{self.parameters.index(operand)}])"
        raise Unknown(operand)

    def number(self, operand, kind):
        """As the C type that computes with it."""
        if kind in FLOATS:
            return f"{kind}({self.value(operand)})"
        bits = width(kind)
        return f"(({(SIGNED if kind[0] == 's' else UNSIGNED)[bits]}){self.value(operand, bits)})"

    def address(self, operand):
        base, offset = re.match(r"\[([%\w$.]+)(?:\+(-?\d+))?\]$", operand).groups()
        return f"({self.value(base, 64)} + ({offset or 0}))"

    def words(self, name, operand):
        values = ", ".join(self.value(one, 32) for one in listed(operand))
        return f"uint32_t {name}[] = {{{values}}};"

    def spread(self, operand, name):
        return "".join(f"{variable(one)} = {name}[{i}];" for i, one in enumerate(listed(operand)))

    # ---- instructions

    def instruction(self, operation, o):
        name, *parts = operation.split(".")
        handler = getattr(self, "op_" + name, None)
        if handler:
            out = handler(parts, o)
        elif name in NOTHING:
            out = ";"
        elif name in FLOAT_OPS or name in INT_OPS or name in ("fma", "mad"):
            out = self.arithmetic(name, parts, o)
        else:
            out = None
        if out is None:
            raise Unknown(operation)
        return out

    def arithmetic(self, name, parts, o):
        kind, to = parts[-1], variable(o[0])
        if kind in ("f16x2", "bf16x2"):
            half = lambda shift: self.float_of(name, parts, kind[:-2], [f"{kind[:-2]}((uint16_t)({self.value(x, 32)} >> {shift}))" for x in o[1:]])
            return f"{to} = (uint32_t){half(0)} | (uint32_t){half(16)} << 16;"
        if kind in FLOATS:
            return f"{to} = {self.float_of(name, parts, kind, [self.number(x, kind) for x in o[1:]])};"
        bits, args = width(kind), [self.number(x, kind) for x in o[1:]]
        if name in ("mul", "mad"):
            return f"{to} = {self.product(parts[0], kind, args, bits)}{' + ' + self.value(o[3], 64) if name == 'mad' else ''};"
        if "cc" in parts or name not in INT_OPS:
            return None
        return f"{to} = ({UNSIGNED[bits]})({INT_OPS[name].format(a=args[0], b=args[-1], u=UNSIGNED[bits])});"

    def float_of(self, name, parts, kind, args):
        if name == "fma":
            # Once rounded: f16 and bf16 by way of f64.
            expression = f"{'fmaf' if kind == 'f32' else 'fma'}({', '.join(args)})"
        else:
            expression = FLOAT_OPS[name].format(a=args[0], b=args[-1])
            if kind == "f32":
                expression = re.sub(r"\b(fabs|sqrt|exp2|log2|sin|cos|tanh|copysign)\(", r"\1f(", expression)
        if "NaN" in parts:
            expression = f"({args[0]} != {args[0]} || {args[1]} != {args[1]} ? NAN : {expression})"
        if "sat" in parts:
            expression = f"smaller(larger({expression}, 0), 1)"
        return f"of_{kind}({expression})"

    def product(self, part, kind, args, bits):
        table = SIGNED if kind[0] == "s" else UNSIGNED
        if part == "lo":
            wide = UNSIGNED[max(bits, 32)]
            return f"({UNSIGNED[bits]})(({wide}){args[0]} * ({wide}){args[1]})"
        if part == "wide":
            return f"({UNSIGNED[2 * bits]})(({table[2 * bits]}){args[0]} * ({table[2 * bits]}){args[1]})"
        wide = table.get(2 * bits) or ("__int128" if kind[0] == "s" else "unsigned __int128")
        return f"({UNSIGNED[bits]})((({wide}){args[0]} * ({wide}){args[1]}) >> {bits})"

    def op_ld(self, parts, o):
        kind = parts[-1]
        read = (SIGNED if kind[0] == "s" else UNSIGNED)[width(kind)]
        to = [(i, one) for i, one in enumerate(listed(o[0])) if one != "_"]
        reads = "".join(f"{read} x{i} = (({read} *){self.address(o[1])})[{i}];" for i, _ in to)
        return reads + "".join(f"{variable(one)} = x{i};" for i, one in to) + self.moved(parts, o[0])

    def op_st(self, parts, o):
        bits = width(parts[-1])
        put = f"(({UNSIGNED[bits]} *){self.address(o[0])})"
        return "".join(f"{put}[{i}] = {self.value(one, bits)};" for i, one in enumerate(listed(o[1]))) + self.moved(parts, o[1])

    def moved(self, parts, operand):
        """Counts what goes to or from global memory."""
        return f"t->moved += {len(listed(operand)) * width(parts[-1]) // 8};" if "global" in parts else ""

    def op_mov(self, parts, o):
        bits = width(parts[-1])
        if o[1].startswith("{"):
            each = bits // len(listed(o[1]))
            joined = (f"(uint{bits}_t)({UNSIGNED[each]})({self.value(one, each)}) << {i * each}" for i, one in enumerate(listed(o[1])))
            return f"{variable(o[0])} = {' | '.join(joined)};"
        if o[0].startswith("{"):
            each = bits // len(listed(o[0]))
            cuts = (f"{variable(one)} = ({UNSIGNED[each]})(x >> {i * each});" for i, one in enumerate(listed(o[0])) if one != "_")
            return f"uint64_t x = {self.value(o[1], bits)};" + "".join(cuts)
        return f"{variable(o[0])} = {self.value(o[1], bits)};"

    def op_cvta(self, parts, o):
        return f"{variable(o[0])} = {self.value(o[1], 64)};"

    def op_and(self, parts, o, sign="&"):
        bits = width(parts[-1])
        return f"{variable(o[0])} = {self.value(o[1], bits)} {sign} {self.value(o[2], bits)};"

    def op_or(self, parts, o):
        return self.op_and(parts, o, "|")

    def op_xor(self, parts, o):
        return self.op_and(parts, o, "^")

    def op_not(self, parts, o):
        return f"{variable(o[0])} = {'!' if parts[-1] == 'pred' else '~'}{self.value(o[1], width(parts[-1]))};"

    def op_shl(self, parts, o):
        bits, by = width(parts[-1]), self.value(o[2], 32)
        return f"{variable(o[0])} = {by} >= {bits} ? 0 : ({UNSIGNED[bits]}){self.value(o[1], bits)} << {by};"

    def op_shr(self, parts, o):
        kind, bits, by = parts[-1], width(parts[-1]), self.value(o[2], 32)
        over = f"({self.number(o[1], kind)} >> {bits - 1})" if kind[0] == "s" else "0"
        return f"{variable(o[0])} = {by} >= {bits} ? {over} : {self.number(o[1], kind)} >> {by};"

    def op_shf(self, parts, o):
        by = self.value(o[3], 32)
        by = f"({by} & 31)" if parts[1] == "wrap" else f"({by} > 32 ? 32 : {by})"
        both = f"((uint64_t){self.value(o[2], 32)} << 32 | {self.value(o[1], 32)})"
        return f"{variable(o[0])} = {f'{both} >> {by}' if parts[0] == 'r' else f'({both} << {by}) >> 32'};"

    def op_setp(self, parts, o):
        compare, kind = parts[0], parts[-1]
        a, b = self.number(o[1], kind), self.number(o[2], kind)
        if kind not in FLOATS:
            holds = f"{a} {COMPARE[compare]} {b}"
        elif compare in ("num", "nan"):
            holds = f"({a} != {a} || {b} != {b}) == {int(compare == 'nan')}"
        elif compare in COMPARE:
            holds = f"{a} == {a} && {b} == {b} && {a} {COMPARE[compare]} {b}"
        else:
            holds = f"{a} != {a} || {b} != {b} || {a} {COMPARE[compare[:-1]]} {b}"
        if parts[1] in BITS:
            holds = f"({holds}) {BITS[parts[1]]} ({self.predicate(o[3])})"
        first, _, second = o[0].partition("|")
        return f"int holds = {holds}; {variable(first)} = holds;" + (f"{variable(second)} = !holds;" if second else "")

    def op_selp(self, parts, o):
        bits = width(parts[-1])
        return f"{variable(o[0])} = {variable(o[3])} ? {self.value(o[1], bits)} : {self.value(o[2], bits)};"

    def op_cvt(self, parts, o):
        (*how, to, source), out = parts, variable(o[0])
        if to in ("bf16x2", "f16x2"):
            each = "of_bf16_cut" if "rz" in how else f"of_{to[:-2]}"
            return f"{out} = (uint32_t){each}({self.number(o[1], source)}) << 16 | {each}({self.number(o[2], source)});"
        if to == "tf32":
            return f"{out} = tf32({self.number(o[1], source)});"
        value, rounded = self.number(o[1], source), [ROUND[one] for one in how if one in ROUND]
        value = f"{rounded[0]}({value})" if rounded else value
        if to in FLOATS:
            value = f"smaller(larger({value}, 0), 1)" if "sat" in how else value
            return f"{out} = {'of_bf16_cut' if to == 'bf16' and 'rz' in how else 'of_' + to}({value});"
        bits = width(to)
        if source not in FLOATS:
            return None if "sat" in how else f"{out} = ({(SIGNED if to[0] == 's' else UNSIGNED)[bits]}){value};"
        if to[0] == "s":
            return f"{out} = to_signed({value}, {-(2.0 ** (bits - 1))}, {2.0 ** (bits - 1) - 1});"
        return f"{out} = to_unsigned({value}, {2.0**bits - 1});"

    def op_bra(self, parts, o):
        return f"goto {label(o[0])};"

    def op_brx(self, parts, o):
        cases = "".join(f"case {i}: goto {label(one)};" for i, one in enumerate(self.branches[o[1]]))
        return f"switch ({self.value(o[0], 32)}) {{ {cases} }}"

    def op_ret(self, parts, o):
        return "return;"

    op_exit = op_ret

    def op_trap(self, parts, o):
        return "abort();"

    def op_bar(self, parts, o):
        self.meets = True
        return f"ptx_warp(t, {self.value(o[0], 32)});" if parts[0] == "warp" else "ptx_block(t);"

    op_barrier = op_bar

    def op_shfl(self, parts, o):
        self.meets = True
        to, _, in_range = o[0].partition("|")
        given = ", ".join(self.value(one, 32) for one in o[1:5])
        return f"{variable(to)} = shfl(t, SHFL_{parts[1].upper()}, {given}, {'&' + variable(in_range) if in_range not in ('', '_') else 0});"

    def op_vote(self, parts, o):
        self.meets = True
        mask = self.value(o[2], 32)
        wanted = {"ballot": "", "any": " != 0", "all": f" == {mask}"}[parts[1]]
        return f"{variable(o[0])} = ballot(t, {self.predicate(o[1])}, {mask}){wanted};"

    def op_activemask(self, parts, o):
        return f"{variable(o[0])} = ~0u;"

    def op_atom(self, parts, o):
        kind = parts[-1]
        to, place, *given = o
        args = [self.number(one, kind) for one in given]
        expression = ATOMIC_OPS[next(one for one in parts if one in ATOMIC_OPS)]
        bits = UNSIGNED[width(kind)]
        if kind in FLOATS:
            expression = f"of_{kind}({expression.replace('old', f'{kind}(old)')})"
        expression = expression.format(a=args[0], b=args[-1], t=(SIGNED if kind[0] == "s" else UNSIGNED)[width(kind)])
        keep = f"{variable(to)} = old;" if to != "_" else ""
        return f"{bits} *at = ({bits} *){self.address(place)}; {bits} old = *at; *at = {expression}; {keep}{self.moved(parts, place) * 2}"

    def op_red(self, parts, o):
        return self.op_atom(parts, ["_", *o])

    def op_prmt(self, parts, o):
        return f"{variable(o[0])} = prmt({', '.join(self.value(one, 32) for one in o[1:4])});"

    def op_lop3(self, parts, o):
        return f"{variable(o[0])} = lop3({', '.join(self.value(one, 32) for one in o[1:4])}, {o[4]});"

    def op_bfe(self, parts, o):
        bits, kind = width(parts[-1]), parts[-1]
        place = f"int from = {self.value(o[2], 32)} & 255, count = {self.value(o[3], 32)} & 255;"
        up = f"({UNSIGNED[bits]}){self.value(o[1], bits)} << ({bits} - from - count)"
        return f"{place} {variable(o[0])} = count ? ({(SIGNED if kind[0] == 's' else UNSIGNED)[bits]})({up}) >> ({bits} - count) : 0;"

    def op_bfi(self, parts, o):
        bits = width(parts[-1])
        part, whole = self.value(o[1], bits), self.value(o[2], bits)
        place = f"unsigned from = {self.value(o[3], 32)} & 255, count = {self.value(o[4], 32)} & 255;"
        ones = f"{UNSIGNED[bits]} ones = count >= {bits} ? ~({UNSIGNED[bits]})0 : (({UNSIGNED[bits]})1 << count) - 1;"
        mask = f"{UNSIGNED[bits]} mask = from >= {bits} ? 0 : ones << from;"
        return f"{place} {ones} {mask} {variable(o[0])} = ({whole} & ~mask) | ((from >= {bits} ? 0 : ({UNSIGNED[bits]}){part} << from) & mask);"

    def op_popc(self, parts, o):
        return f"{variable(o[0])} = __builtin_popcountll({self.value(o[1], width(parts[-1]))});"

    def op_clz(self, parts, o):
        bits = width(parts[-1])
        value = self.value(o[1], bits)
        return f"{variable(o[0])} = {value} ? __builtin_clzll({value}) - {64 - bits} : {bits};"

    def op_cp(self, parts, o):
        if parts[0] != "async" or parts[1] not in ("ca", "cg", "commit_group", "wait_group", "wait_all"):
            return None
        if parts[1] not in ("ca", "cg"):
            return ";"
        to, source, size = self.address(o[0]), self.address(o[1]), o[2]
        return f"t->moved += {size}; memset((void *){to}, 0, {size}); memcpy((void *){to}, (void *){source}, {self.value(o[3], 32) if len(o) > 3 else size});"

    def op_ldmatrix(self, parts, o):
        self.meets = True
        count = next(one[1] for one in parts if re.match(r"x[124]$", one))
        return f"uint32_t d[4]; ldmatrix(t, {count}, {int('trans' in parts)}, d, {self.address(o[1])});" + self.spread(o[0], "d")

    def op_mma(self, parts, o):
        self.meets = True
        m, n, k = re.match(r"m(\d+)n(\d+)k(\d+)", parts[2]).groups()
        if (m, n, parts[-4]) != ("16", "8", "f32"):
            return None
        given = self.words("a", o[1]) + self.words("b", o[2]) + self.words("c", o[3])
        return f"uint32_t d[4]; {given} mma(t, OF_{parts[-3].upper()}, {k}, d, a, b, c);" + self.spread(o[0], "d")

    def op_wmma(self, parts, o):
        self.meets = True
        shape = next(one for one in parts if re.match(r"m\d+n\d+k\d+$", one))
        m, n, k = map(int, re.match(r"m(\d+)n(\d+)k(\d+)", shape).groups())
        kind, by_rows = parts[-1], int("row" in parts)
        if parts[0] == "mma":
            kinds = parts[parts.index(shape) + 1 :]
            if kinds[0] != "f32":
                return None
            of = "OF_BF16" if "bf16" in kinds else "OF_TF32" if "tf32" in kinds else "OF_F16"
            given = self.words("a", o[1]) + self.words("b", o[2]) + self.words("c", o[3])
            return f"uint32_t d[8]; {given} wmma_mma(t, {of}, {m}, {n}, {k}, d, a, b, c);" + self.spread(o[0], "d")
        if parts[0] == "store":
            if kind != "f32":
                return None
            place = f"{self.address(o[0])}, {self.value(o[2], 32)}"
            return f"{self.words('d', o[1])} wmma_store32(t, d, {len(listed(o[1]))}, {n}, {by_rows}, {place});"
        rows, columns = {"a": (m, k), "b": (k, n), "c": (m, n)}[parts[1]]
        bits, count = 16 if kind in ("f16", "bf16") else 32, len(listed(o[0]))
        if bits == 16 and parts[1] == "c":
            return None
        place = f"{rows}, {columns}, {by_rows}, {self.address(o[1])}, {self.value(o[2], 32)}"
        return f"uint32_t d[{count}]; wmma_load{bits}(t, d, {count}, {place});" + self.spread(o[0], "d")


if __name__ == "__main__":
    try:
        print(Kernel(open(sys.argv[1]).read()).code())
    except Unknown as what:
        sys.exit(f"{sys.argv[1]}: {what} is not translated")
