"""The store of what a run made: whole outputs by fingerprint, and how files get there."""

from bigel.store.files import copy_file, file_digest, is_own, working_folder, write_json, write_text
from bigel.store.fingerprints import FINGERPRINT, code_digest, fingerprint, stage_key
from bigel.store.manifest import MANIFEST, known_digest
from bigel.store.workspace import Record, Workspace

__all__ = [
    "FINGERPRINT",
    "MANIFEST",
    "Record",
    "Workspace",
    "code_digest",
    "copy_file",
    "file_digest",
    "fingerprint",
    "is_own",
    "known_digest",
    "stage_key",
    "working_folder",
    "write_json",
    "write_text",
]
