"""What lies in a storage, by a listing of its own: the product never needs one."""

from tintype import storage


def keys_in(store: storage.Store) -> set[str]:
    """Every key; a half-written file of a folder (`name#1`) is none."""
    return {entry["path"] for page in store.objects.list() for entry in page}
