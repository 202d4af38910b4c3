"""`modelplex run --packages`: read-only mirrors of PyPI and npm for a sandbox.

Loaded only when used. names.py, allow_list.py, lock_files.py, pnpm_lock.py, simple_index.py,
packument.py, sites.py and certificate.py are pure, which tests/test_architecture.py checks.
"""
