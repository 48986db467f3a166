"""What the scripts in this folder ask about the crates: which are linked into the library, which are vendored, and
under which licences. Everything comes from cargo; nothing is fetched."""
import json
import os
import re
import subprocess

# The systems the vendored sources are for. Crates that none of these needs are left out of a release.
TARGETS = [cpu + '-unknown-linux-' + libc for libc in ('gnu', 'musl') for cpu in ('x86_64', 'aarch64')] + [
    'armv7-unknown-linux-gnueabihf', 'i686-unknown-linux-gnu', 'loongarch64-unknown-linux-gnu',
    'powerpc64le-unknown-linux-gnu', 'riscv64gc-unknown-linux-gnu', 's390x-unknown-linux-gnu',
    'aarch64-apple-darwin', 'x86_64-apple-darwin', 'aarch64-linux-android', 'x86_64-unknown-freebsd',
    'x86_64-unknown-netbsd',
]
TEXTS = re.compile(r'(LICEN[SC]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)([-._].*)?$', re.IGNORECASE)


def command(*args, **kw):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True, **kw).stdout


def metadata(root, target=None):
    """What cargo resolved, for all systems or for one."""
    args = ['cargo', 'metadata', '--format-version', '1', '--locked']
    if target:
        args += ['--filter-platform', target]
    return json.loads(command(*args, cwd=root))


class Crate:
    def __init__(self, package):
        self.id = package['id']
        self.name = package['name']
        self.version = package['version']
        self.authors = package['authors']
        self.description = ' '.join((package['description'] or '').split())
        self.folder = os.path.dirname(package['manifest_path'])
        # A slash was "or" before licences were expressions.
        self.licence = re.sub(r' */ *', ' OR ', package['license'] or '')

    def __str__(self):
        return self.name + '-' + self.version

    def texts(self):
        """The licence files as they lie in the crate, by name."""
        found = {}
        for folder, folders, files in os.walk(self.folder):
            folders[:] = sorted(f for f in folders if f not in ('target', 'vendor'))
            for name in sorted(files):
                if TEXTS.match(name) and not name.endswith(('.rs', '.html')):
                    path = os.path.join(folder, name)
                    with open(path, encoding='utf-8', errors='replace') as file:
                        found[os.path.relpath(path, self.folder)] = file.read().strip('\n') + '\n'
        return found


def crates(meta, keep):
    found = [Crate(p) for p in meta['packages'] if p['source'] and p['id'] in keep]
    return sorted(found, key=lambda c: (c.name, c.version))


def reached(meta, kinds):
    """The ids of what the library needs by dependencies of these kinds: None, 'build', 'dev'. Only the library
    itself has any of kind 'dev'."""
    nodes = {node['id']: node for node in meta['resolve']['nodes']}
    seen, todo = set(), [meta['resolve']['root']]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        todo += [d['pkg'] for d in nodes[at]['deps'] if any(k['kind'] in kinds for k in d['dep_kinds'])]
    return seen


def linked(root, target):
    """The crates whose code is in the library, and who needs whom of them. Without what only runs while it is
    built: build scripts and macros."""
    meta = metadata(root, target)
    macros = {p['id'] for p in meta['packages'] if any('proc-macro' in t['kind'] for t in p['targets'])}
    keep = reached(meta, [None]) - macros
    needs = {node['id']: sorted(d['pkg'] for d in node['deps']
                                if d['pkg'] in keep and any(k['kind'] is None for k in d['dep_kinds']))
             for node in meta['resolve']['nodes'] if node['id'] in keep}
    return crates(meta, keep), needs, meta['resolve']['root']


def needed(root):
    """The names, with versions, of all crates that some supported system needs to build and test the library."""
    names = set()
    for target in TARGETS:
        meta = metadata(root, target)
        names |= {str(c) for c in crates(meta, reached(meta, [None, 'build', 'dev']))}
    return names
