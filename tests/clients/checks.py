"""Checks with names, each alone: what fails does not stop the others. Used inside and outside of the suite's own
process: a part that runs elsewhere prints its lines, which `Checks.read` takes over."""

import subprocess
import time
import traceback


class Skipped(Exception):
    """A check that cannot be made here, and why."""


class Checks:
    def __init__(self, part):
        self.part, self.passed, self.failed, self.skipped = part, 0, [], []

    def check(self, name, body):
        """Runs one check."""
        try:
            body()
        except Skipped as reason:
            self.skip(name, reason)
        except Exception as error:
            said = str(error) or "".join(traceback.format_exception_only(error))
            where = traceback.extract_tb(error.__traceback__)
            own = next((f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in where[1:]), "")
            self.fail(name, f"{said.strip()} ({own})")
        else:
            self.passed += 1
            print(f"ok   {self.part}: {name}", flush=True)

    def fail(self, name, why):
        self.failed.append((name, why))
        print(f"FAIL {self.part}: {name}: {indented(why)}", flush=True)

    def skip(self, name, why):
        self.skipped.append((name, str(why)))
        print(f"skip {self.part}: {name}: {indented(why)}", flush=True)

    def read(self, text):
        """Takes over what a part printed that ran in a process of its own."""
        for line in text.splitlines():
            verdict, _, rest = line.partition(" ")
            name, _, why = rest.strip().partition(": ")[2].partition(": ")
            if verdict == "ok":
                self.passed += 1
            elif verdict == "FAIL":
                self.failed.append((name, why))
            elif verdict == "skip":
                self.skipped.append((name, why))
            print(line, flush=True)

    def end(self):
        """Exit code of a part that runs in a process of its own."""
        return 1 if self.failed else 0


def indented(text):
    return str(text).strip().replace("\n", "\n     ")


def has(text, *wanted):
    """Requires parts of a text."""
    for part in wanted:
        if part not in text:
            raise AssertionError(f"no {part!r} in:\n{text}")
    return text


def same(found, wanted):
    """Requires a value."""
    if found != wanted:
        raise AssertionError(f"found  {found!r}\nwanted {wanted!r}")
    return found


def until(what, found, seconds=30, said=lambda: ""):
    """Waits until `found` gives something true, and gives it; else fails with what is `said`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s\n{said()}")


class Ran:
    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def ok(self):
        """The output of a command that succeeded."""
        if self.code != 0:
            raise AssertionError(f"{self.command} failed with {self.code}:\n{self.out}{self.err}")
        return self.out

    def refused(self, *wanted):
        """The complaint of a command that failed, with these words."""
        if self.code == 0:
            raise AssertionError(f"{self.command} did not fail:\n{self.out}{self.err}")
        return has(self.err or self.out, *wanted)


def program(command, environment, directory, stdin=None, seconds=60):
    """Runs a program to its end."""
    shown = " ".join([command[0].rsplit("/", 1)[-1], *command[1:]])
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=directory,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            **({} if stdin is not None else {"stdin": subprocess.DEVNULL}),
        )
    except subprocess.TimeoutExpired as hung:
        text = lambda raw: raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""
        return Ran(shown, 124, text(hung.stdout), text(hung.stderr) + f"\n(ended after {seconds} s)")
    return Ran(shown, done.returncode, done.stdout, done.stderr)
