"""What the application's container does in a maintenance run: it runs the commands that the runner asks for.

`todo` gets `run SECONDS CAPTURE` and `stop 0 0`; `done` gets `started -` and `ended CODE`. `command` has the command
line, quoted for a shell; with CAPTURE its standard output goes to the file `output`, and to the log afterwards.
"""

AGENT = r"""
box=$1
umask 077
trap 'exit 0' TERM
[ -p "$box/done" ] || mkfifo "$box/done"
[ -p "$box/todo" ] || mkfifo "$box/todo"
exec 3<>"$box/todo" 4<>"$box/done"
echo "started -" >&4
runs=
while read -r verb seconds capture <&3; do
  if [ "$verb" = stop ]; then
    [ -z "$runs" ] || kill -TERM "$runs" 2>/dev/null
    continue
  fi
  eval "set -- $(cat "$box/command")"
  (
    exec 3<&-
    if [ "$capture" = 1 ]; then
      timeout -k 10 "$seconds" "$@" >"$box/output" 4>&- &
    else
      timeout -k 10 "$seconds" "$@" 4>&- &
    fi
    command=$!
    trap 'kill -TERM "$command" 2>/dev/null' TERM
    wait "$command"
    code=$?
    while kill -0 "$command" 2>/dev/null; do
      wait "$command"
      code=$?
    done
    [ "$capture" != 1 ] || cat "$box/output"
    echo "ended $code" >&4
  ) &
  runs=$!
done
"""
"""Of POSIX sh, with `mkfifo` and `timeout` of coreutils or busybox."""
