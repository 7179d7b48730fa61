"""Published models that BiGEL is compared with, one file each, behind one interface."""
