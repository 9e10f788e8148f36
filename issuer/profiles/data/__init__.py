"""Data that comes with the program: the municipalities of the prefectures, with their 全国地方公共団体コード."""
