"""`make matrix`: writes docs/reference/dialects.md."""

from tests.matrix.page import PAGE, page

PAGE.write_text(page())
