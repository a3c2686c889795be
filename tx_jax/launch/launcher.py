"""Takes a run through its life on a TPU VM: looks, asks `lifecycle` what to do, and does it, until there is an end."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tx_jax.errors import InputError
from tx_jax.launch import snapshot
from tx_jax.launch.gcloud import LABEL, Gcloud, GcloudFailed, labels_of, reason
from tx_jax.launch.lifecycle import Action, Resource, Run, next_action
from tx_jax.launch.observing import LAST_BYTES, Observer, Seen, folder_of, on_worker, status_command
from tx_jax.launch.request import ARCHIVE, PYTHON, Request, differences

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_LEFT = 0, 1, 2, 75
FAILURES = 30  # of gcloud in a row, after which the launcher leaves all as it is


class Launcher:
    """
    Args:
      root: the clone whose working tree the workers get.
      say: prints a line about the launch.
      tell: prints a part of worker 0's log.
      keep: whether to leave the resource when the run has ended.
      max_restarts: how often in a row the run may be started again without a newer checkpoint.
    """

    def __init__(
        self,
        request: Request,
        gcloud: Gcloud,
        root: Path,
        *,
        say: Callable[[str], None],
        tell: Callable[[bytes], None],
        keep: bool = False,
        max_restarts: int = 5,
        poll_seconds: float = 20.0,
    ):
        self._request, self._gcloud, self._root, self._say, self._tell = request, gcloud, root, say, tell
        self._keep, self._max_restarts, self._poll_seconds = keep, max_restarts, poll_seconds
        self._observer = Observer(request, gcloud)
        self._launch = ""  # the name of the record in the run directory
        self._temporary = tempfile.TemporaryDirectory(prefix="tx_jax-launch-")
        self._folder = Path(self._temporary.name)
        self._restarts, self._step, self._logged = 0, 0, 0
        self._seen_before: tuple[object, ...] = ()
        self._there = False  # whether the resource was there before

    def run(self) -> int:
        """Returns the exit code: 0 done, 1 failed, 2 bad input, 75 left as it is."""
        with self._temporary:
            self._step = self._first_step()
            if self._observer.last_record().get("command") != self._request.command:
                self._observer.done_before = self._step
            seen, asked = self._look(), True
            if seen.resource not in (Resource.NONE, Resource.DELETING):
                self._take_up(seen)
            while True:
                self._show_log(seen)
                limited = bool(self._request.valid_until)
                action = next_action(seen.resource, seen.run, asked=asked, deleted=self._there, limited=limited)
                asked = asked and action == Action.WAIT
                self._there = self._there or seen.resource not in (Resource.NONE, Resource.DELETING)
                if (code := self._do(action, seen)) is not None:
                    return code
                if action in (Action.WAIT, Action.FOLLOW):
                    time.sleep(self._poll_seconds)
                seen = self._look()

    def _first_step(self) -> int:
        """The newest checkpoint's. Raises InputError if the run directory cannot be read."""
        try:
            return self._observer.step()
        except GcloudFailed as error:
            raise InputError(f"--workdir={self._request.workdir}: gcloud cannot read it: {error}") from None

    def show(self) -> None:
        """Has gcloud show the commands of a whole life, in order: nothing is run."""
        self._observer.describe()
        self._observer.is_done()
        self._record()
        self._create()
        self._observer.look()
        self._gcloud.run(self._request.slice.describe_vm())
        self._gcloud.run(self._request.slice.ssh(status_command(self._request.slice)))
        self._start(anew=True)
        self._observer.log(1)
        self._observer.step()
        if not self._keep:
            self._delete()

    def _look(self) -> Seen:
        """Looks, several times where gcloud fails. Says what has changed."""
        for failures in range(FAILURES):
            try:
                seen = self._observer.look()
                break
            except (GcloudFailed, InputError) as error:  # an InputError: the credentials are no longer valid
                if isinstance(error, InputError) and not self._launch:
                    raise
                if failures == FAILURES - 1:
                    raise GcloudFailed(str(error)) from None
                self._say(f"gcloud cannot tell ({error}): it is asked again")
                time.sleep(self._poll_seconds)
        now = (seen.resource, seen.run, seen.workers if seen.run == Run.UNREACHABLE else ())
        if now != self._seen_before:
            self._seen_before = now
            self._say(_described(seen))
        return seen

    def _show_log(self, seen: Seen) -> None:
        if seen.log_bytes > self._logged:
            text = self._observer.log(self._logged + 1)
            self._logged += len(text)
            self._tell(text)

    def _do(self, action: Action, seen: Seen) -> int | None:
        """Does it. Returns the exit code if that was the end."""
        if action == Action.CREATE:
            if self._launch and self._too_often():  # it could not be created anew
                return EXIT_FAILED
            begins = not self._launch
            if begins:
                self._record()
            self._create(anew=not begins)
        elif action == Action.REPLACE:
            if self._too_often():
                return self._end(EXIT_FAILED, seen)
            self._delete()
            self._create(anew=True)
        elif action == Action.START:
            again = seen.run in (Run.STOPPED, Run.KILLED)
            if again and self._too_often():
                return self._end(EXIT_FAILED, seen)
            if not self._start(anew=seen.run == Run.NOT_STARTED):
                if self._too_often():
                    return self._end(EXIT_FAILED, seen)
                time.sleep(self._poll_seconds)
        elif action == Action.FINISH:
            self._say(f"done: {self._request.workdir}")
            return self._end(EXIT_DONE, seen)
        elif action == Action.GIVE_UP:
            if seen.resource == Resource.FAILED:
                self._say(f"the resource was not given within {self._request.valid_until}")
                return self._end(EXIT_FAILED, seen)
            code = EXIT_BAD_INPUT if seen.run == Run.BAD_INPUT else EXIT_FAILED
            self._say(f"the run has ended with {seen.run.value}: the reason is in the last lines of the log above")
            return self._end(code, seen)
        elif action == Action.LEAVE:
            gone = seen.resource == Resource.NONE
            self._say("somebody has deleted the resource: this is the end" if gone else "the word stop has stopped it")
            return EXIT_LEFT
        return None

    def _too_often(self) -> bool:
        """Counts a restart. Whether there were too many since the last checkpoint."""
        if (step := self._observer.step()) > self._step:
            self._step, self._restarts = step, 0
        self._restarts += 1
        if self._restarts <= self._max_restarts:
            self._say(f"restart {self._restarts} of at most {self._max_restarts} after step {self._step}")
            return False
        self._say(f"{self._max_restarts} restarts brought no checkpoint after step {self._step}: this is the end")
        return True

    def _end(self, code: int, seen: Seen) -> int:
        if seen.resource != Resource.NONE:
            if self._keep:
                self._say("the resource is kept, and costs, until the word delete")
            else:
                self._delete()
        return code

    def _take_up(self, seen: Seen) -> None:
        """Makes the launch of a resource that is there ours. Raises InputError if it is another one."""
        name, workdir = self._request.slice.name, self._request.workdir
        self._launch = labels_of(seen.description or {}).get(LABEL, "")
        other = "give another --name, or delete it by the word delete"
        if not self._launch:
            raise InputError(f"--name={name}: there is a resource with this name that no launcher made: {other}")
        if not (record := self._observer.record(self._launch)):
            raise InputError(f"--name={name} runs something else: {workdir} has no record of it: {other}")
        if different := differences(record, self._request.identity):
            raise InputError(f"--name={name} runs something else: {'; '.join(different)}: {other}")
        self._gcloud.run(["storage", "cp", f"{self._address}/{ARCHIVE}", str(self._folder / ARCHIVE)])
        self._logged = max(seen.log_bytes - LAST_BYTES, 0)
        self._say(f"taking up launch {self._launch}, revision {record['revision'][:12]}")

    @property
    def _address(self) -> str:
        return f"{self._request.workdir}/launch/{self._launch}"

    def _record(self) -> None:
        """Takes the snapshot and keeps it in the run directory."""
        self._launch = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        found = snapshot.take(self._root)
        changed = ", with changes that are not committed (changes.patch)" if found.patch else ""
        self._say(f"launch {self._launch}: revision {found.revision[:12]}{changed}, recorded in {self._address}")
        for name in found.untracked:
            self._say(f"copied although git does not know it: {name}")
        files = self._request.write_record(found, self._folder)
        try:
            self._gcloud.run(["storage", "cp", *map(str, files), f"{self._address}/"])
        except GcloudFailed as error:
            raise InputError(f"--workdir={self._request.workdir}: gcloud cannot write there: {error}") from None

    def _create(self, *, anew: bool = False) -> None:
        """Raises InputError if the request is refused. If it is created `anew`, that is tried again."""
        self._observer.forget()
        self._logged = 0
        labels = {**self._request.labels, LABEL: self._launch}
        try:
            self._gcloud.run(self._request.slice.create(self._request.create_flags(), labels))
            self._there = True
        except GcloudFailed as error:
            if not anew:
                raise InputError(f"gcloud refuses the request: {error}") from None
            self._say(f"gcloud refuses the request: {error}")
            time.sleep(self._poll_seconds)

    def _delete(self) -> None:
        self._there = False
        self._say("deleting the resource")
        try:
            self._gcloud.run(self._request.slice.delete())
        except GcloudFailed as error:
            if not error.is_absent:
                raise

    def _start(self, *, anew: bool) -> bool:
        """Starts the run on all workers, which `anew` get the code and an environment first. Whether that worked."""
        slice_ = self._request.slice
        if anew:
            self._say("copying the code and installing it")
        try:
            if anew:
                files = self._request.write_for_workers(self._folder, self._launch)
                self._gcloud.run(slice_.ssh(f"mkdir -p {folder_of(slice_)}"))
                self._gcloud.run(slice_.copy([str(file) for file in files], f"{folder_of(slice_)}/"))
                self._gcloud.run(slice_.ssh(on_worker(slice_, "setup", PYTHON, ",".join(self._request.extras))))
            self._gcloud.run(slice_.ssh(on_worker(slice_, "start")))
        except GcloudFailed as error:
            self._say(f"the workers could not be set up: {error}")
            return False
        self._say(f"started: {self._request.command}")
        return True


def _described(seen: Seen) -> str:
    """The states in a line."""
    if seen.resource == Resource.NONE:
        return "there is no resource yet" if seen.run != Run.DONE else "the run directory says DONE"
    why = f" ({text})" if (text := reason(seen.description or {})) else ""
    if seen.resource != Resource.ACTIVE:
        return f"{seen.resource.value}{why}"
    if seen.run in (Run.UNREACHABLE, Run.LOST):
        return f"ACTIVE, but {seen.run.value} ({seen.workers[0]})"
    count = len(seen.workers)
    return f"ACTIVE, {count} worker{'s' if count > 1 else ''}: {seen.run.value}"
